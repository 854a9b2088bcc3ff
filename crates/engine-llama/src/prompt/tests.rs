use super::*;

/// Letters are tokens, `ab` is one too (and what the tokenizer prefers), `|` is atomic, 0 begins
/// every text.
struct Letters;

const PAIR: Token = 1_000;

impl Tokens for Letters {
    fn text(&self, token: Token) -> &[u8] {
        match token {
            PAIR => b"ab",
            0 => b"<s>",
            97 => b"a",
            98 => b"b",
            99 => b"c",
            124 => b"|",
            other => panic!("no token {other}"),
        }
    }

    fn is_atomic(&self, token: Token) -> bool {
        token == 124
    }

    fn tokenize(&self, text: &str) -> Result<Vec<Token>, llama::Error> {
        let mut tokens = Vec::new();
        let mut rest = text.as_bytes();
        while let [first, tail @ ..] = rest {
            if let Some(tail) = rest.strip_prefix(b"ab") {
                tokens.push(PAIR);
                rest = tail;
            } else {
                tokens.push(Token::from(*first));
                rest = tail;
            }
        }
        Ok(tokens)
    }
}

fn check(held: &[Token], prompt: &str, expected: &[Token]) {
    let mut plain = vec![0];
    plain.extend(Letters.tokenize(prompt).unwrap());
    assert_eq!(extend(&Letters, held, prompt, &plain).unwrap(), expected);
}

#[test]
fn generated_tokens_are_kept_though_the_tokenizer_would_make_others() {
    check(&[0, 124, 97, 98, 124], "|ab|c", &[0, 124, 97, 98, 124, 99]);
}

#[test]
fn an_answer_that_was_cut_off_is_kept_if_a_whole_token_follows() {
    check(&[0, 124, 97, 98], "|ab|c", &[0, 124, 97, 98, 124, 99]);
    // Here the tokenizer might have joined `b` with what follows: only what stands before the last
    // cut is kept.
    check(&[0, 124, 97], "|abc", &[0, 124, PAIR, 99]);
}

#[test]
fn where_the_text_differs_only_what_is_before_is_kept() {
    check(&[0, 124, 97, 98, 124, 97], "|ab|c", &[0, 124, 97, 98, 124, 99]);
    check(&[0, 124, 97, 98, 124], "|cb|", &[0, 124, 99, 98, 124]);
    check(&[], "|ab", &[0, 124, PAIR]);
    check(&[0, 124, 97, 98, 124, 99, 99], "|ab|c", &[0, 124, 97, 98, 124, 99]);
}
