//! The vocabulary as bytes: what each token adds to the output, and the trie that grammars are
//! matched against.
//!
//! Three views of a token differ and are kept apart here: what a client sees (control tokens are
//! silent), what a rendered prompt holds (control tokens are their names), and what a grammar may
//! spell (control tokens are outside of it). The markers of a tool call are text in all three,
//! whatever type the model file gives them.

use std::fmt;
use std::sync::Arc;

use toktrie::{TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::llama::{self, Model, Token};

/// What opens a tool call (Hermes form).
pub(crate) const CALL_OPEN: &str = "<tool_call>";
/// What closes it.
pub(crate) const CALL_CLOSE: &str = "</tool_call>";

/// How a token helps to close what a grammar has open, see `constraint.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Closing {
    /// Brackets that close.
    Bracket,
    /// A quote, with brackets that close after it or not.
    Quote,
    /// A comma that goes on to what is still required.
    Comma,
    /// Anything else but a number.
    Other,
    /// A digit: numbers need not go on.
    Digit,
}

/// The vocabulary of a model.
pub(crate) struct Vocab {
    model: Arc<Model>,
    /// All tokens' texts behind each other, and where each begins.
    bytes: Vec<u8>,
    starts: Vec<usize>,
    silent: Vec<bool>,
    closing: Vec<Closing>,
    trie: TokTrie,
    call_open: Option<Token>,
}

impl fmt::Debug for Vocab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocab").field("tokens", &self.silent.len()).finish_non_exhaustive()
    }
}

impl Vocab {
    /// Reads the model's vocabulary.
    pub(crate) fn new(model: Arc<Model>) -> Self {
        let size = model.vocab_size();
        let tokens = 0..Token::try_from(size).unwrap_or(Token::MAX);
        let (mut bytes, mut starts) = (Vec::new(), Vec::with_capacity(size + 1));
        let (mut silent, mut words, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        let mut call_open = None;
        for token in tokens {
            let piece = model.piece(token);
            let is_marker = piece == CALL_OPEN.as_bytes() || piece == CALL_CLOSE.as_bytes();
            let is_end = model.is_end(token);
            let is_silent = !is_marker && (model.is_control(token) || is_end);
            if piece == CALL_OPEN.as_bytes() {
                call_open = Some(token);
            }
            if is_end {
                ends.push(token.unsigned_abs());
            }
            words.push(if is_silent { special_word(&piece) } else { piece.clone() });
            starts.push(bytes.len());
            bytes.extend_from_slice(&piece);
            silent.push(is_silent);
        }
        starts.push(bytes.len());
        let closing = words.iter().map(|word| closing_class(word)).collect();
        let end = ends.first().copied().unwrap_or(toktrie::INVALID_TOKEN);
        let info = TokRxInfo::new(u32::try_from(size).unwrap_or(u32::MAX), end);
        let trie = TokTrie::from(&info, &words);
        let trie = if ends.is_empty() { trie } else { trie.with_eos_tokens(&ends) };
        Self { model, bytes, starts, silent, closing, trie, call_open }
    }

    /// The token's text as a rendered prompt holds it.
    pub(crate) fn prompt_text(&self, token: Token) -> &[u8] {
        let range = usize::try_from(token).ok().and_then(|index| {
            let (start, end) = (self.starts.get(index)?, self.starts.get(index + 1)?);
            self.bytes.get(*start..*end)
        });
        range.unwrap_or_default()
    }

    /// Bytes of the longest token, as a rendered prompt holds it.
    pub(crate) fn token_bytes_max(&self) -> u32 {
        let lengths = self.starts.windows(2).map(|pair| pair[1] - pair[0]);
        // What has no token of its own is taken by the one for unknown characters.
        let longest = lengths.max().unwrap_or(0).max(char::MAX.len_utf8());
        u32::try_from(longest).unwrap_or(u32::MAX)
    }

    /// The token's text as a client sees it.
    pub(crate) fn output_text(&self, token: Token) -> &[u8] {
        let silent = usize::try_from(token).ok().and_then(|index| self.silent.get(index));
        if silent == Some(&false) { self.prompt_text(token) } else { &[] }
    }

    /// How the token helps to close what is open.
    pub(crate) fn closing(&self, index: usize) -> Closing {
        self.closing.get(index).copied().unwrap_or(Closing::Other)
    }

    /// Whether the token ends a generation.
    pub(crate) fn is_end(&self, token: Token) -> bool {
        self.model.is_end(token)
    }

    /// Whether the tokenizer takes the token's text as a whole wherever it stands.
    pub(crate) fn is_atomic(&self, token: Token) -> bool {
        self.model.is_atomic(token)
    }

    /// The one token that opens a tool call, if the vocabulary has one.
    pub(crate) fn call_open(&self) -> Option<Token> {
        self.call_open
    }

    /// The longest token that begins `text` and does not reach beyond it.
    pub(crate) fn longest_prefix(&self, text: &[u8]) -> Option<Token> {
        if text.is_empty() {
            return None;
        }
        let (token, length) = self.trie.prefix_token_id(text);
        (length > 0).then(|| Token::try_from(token).ok()).flatten()
    }

    /// A prompt's tokens.
    ///
    /// # Errors
    /// The text is too long for the library.
    pub(crate) fn tokenize_prompt(&self, text: &str) -> Result<Vec<Token>, llama::Error> {
        let mut tokens = self.model.tokenize(text, true)?;
        // Many templates write the token that begins a text themselves; it must stand there once.
        if let Some(bos) = self.model.bos().filter(|_| self.model.adds_bos())
            && tokens.first() != Some(&bos)
        {
            tokens.insert(0, bos);
        }
        Ok(tokens)
    }

    /// Tokens of a later part of a prompt.
    ///
    /// # Errors
    /// The text is too long for the library.
    pub(crate) fn tokenize_part(&self, text: &str) -> Result<Vec<Token>, llama::Error> {
        self.model.tokenize(text, true)
    }

    /// What grammars are matched against.
    pub(crate) fn environment(self: &Arc<Self>) -> TokEnv {
        Arc::new(Environment(Arc::clone(self)))
    }
}

/// A word that no grammar can spell, as `toktrie` marks special tokens.
fn special_word(piece: &[u8]) -> Vec<u8> {
    let mut word = vec![TokTrie::SPECIAL_TOKEN_MARKER];
    word.extend_from_slice(piece);
    word
}

fn closing_class(word: &[u8]) -> Closing {
    let closes = |rest: &[u8]| rest.iter().all(|byte| matches!(byte, b'}' | b']'));
    match word {
        [b'"', rest @ ..] if closes(rest.strip_prefix(b"\"").unwrap_or(rest)) => Closing::Quote,
        word if !word.is_empty() && closes(word) => Closing::Bracket,
        [b',', ..] => Closing::Comma,
        word if word.iter().any(u8::is_ascii_digit) => Closing::Digit,
        _ => Closing::Other,
    }
}

struct Environment(Arc<Vocab>);

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.0.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.0.trie.tokenize_with_greedy_fallback(bytes, |text| {
            let tokens = self.0.model.tokenize(text, false).unwrap_or_default();
            tokens.into_iter().map(i32::unsigned_abs).collect()
        })
    }
}
