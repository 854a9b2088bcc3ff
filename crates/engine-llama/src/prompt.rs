//! Turns a rendered prompt into tokens so that as much held state as possible can be reused.
//!
//! A conversation that goes on renders to the old text plus new text. Its old part is held as
//! tokens: the prompt's, and the ones that were generated, which need not be what the tokenizer
//! would make of the same text. So the held tokens are followed along the new text for as long as
//! they spell it, and only the rest is tokenized. The cut is made where the tokenizer would also
//! have cut: behind a token that it always takes as a whole, or before one.

#[cfg(test)]
mod tests;

use crate::llama::{self, Token};

/// What is needed of a vocabulary.
pub(crate) trait Tokens {
    /// A token's text in a prompt.
    fn text(&self, token: Token) -> &[u8];
    /// Whether the tokenizer takes the token's text as a whole wherever it stands.
    fn is_atomic(&self, token: Token) -> bool;
    /// Tokens of a part of a prompt.
    ///
    /// # Errors
    /// The text is too long.
    fn tokenize(&self, text: &str) -> Result<Vec<Token>, llama::Error>;
}

impl Tokens for crate::vocab::Vocab {
    fn text(&self, token: Token) -> &[u8] {
        self.prompt_text(token)
    }

    fn is_atomic(&self, token: Token) -> bool {
        Self::is_atomic(self, token)
    }

    fn tokenize(&self, text: &str) -> Result<Vec<Token>, llama::Error> {
        self.tokenize_part(text)
    }
}

/// How many tokens two sequences have in common at their start.
pub(crate) fn common_prefix(a: &[Token], b: &[Token]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The tokens of `prompt`: `held` as far as it spells it, or `plain`, its usual tokens, if they
/// reuse more.
pub(crate) fn extend(
    vocab: &impl Tokens,
    held: &[Token],
    prompt: &str,
    plain: &[Token],
) -> Result<Vec<Token>, llama::Error> {
    let Some((count, bytes)) = last_cut(vocab, held, prompt, plain)? else {
        return Ok(plain.to_vec());
    };
    if count <= common_prefix(held, plain) {
        return Ok(plain.to_vec());
    }
    let mut tokens = held[..count].to_vec();
    tokens.extend(vocab.tokenize(&prompt[bytes..])?);
    Ok(tokens)
}

/// The last place where `held` may be cut: tokens before it, and bytes of the prompt that they
/// spell.
fn last_cut(
    vocab: &impl Tokens,
    held: &[Token],
    prompt: &str,
    plain: &[Token],
) -> Result<Option<(usize, usize)>, llama::Error> {
    let mut offset = 0;
    let mut cut = None;
    for (index, token) in held.iter().enumerate() {
        let text = vocab.text(*token);
        if !prompt.as_bytes()[offset..].starts_with(text) {
            // A token that begins every text is not in the template's text.
            if index == 0 && plain.first() == Some(token) {
                continue;
            }
            return Ok(cut);
        }
        offset += text.len();
        if vocab.is_atomic(*token) {
            cut = Some((index + 1, offset));
        }
    }
    if !held.is_empty() && prompt.is_char_boundary(offset) {
        let rest = vocab.tokenize(&prompt[offset..])?;
        if rest.first().is_some_and(|token| vocab.is_atomic(*token)) {
            cut = Some((held.len(), offset));
        }
    }
    Ok(cut.filter(|(_, offset)| prompt.is_char_boundary(*offset)))
}
