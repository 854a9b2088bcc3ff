//! Words of a text as buckets, and measures of its shape.
//!
//! Texts come in lower case. Words of scripts that are written without spaces are cut into pairs of
//! characters. It must not know what a conversation is.

use super::{BUCKETS, number};

/// Characters of the pieces that words are cut into, with a mark at either end.
const PIECE_CHARS: std::ops::RangeInclusive<usize> = 3..=5;
/// Words at the beginning that count as such too: there stands what is to be done.
const FIRST_WORDS: usize = 4;
/// Bytes below a colon or an empty line that are a paste.
const PASTE_BYTES_MIN: usize = 60;
/// A word of so many characters is long.
const LONG_CHARS: usize = 9;
/// Characters between quotation marks that are a quote, and no name or term.
const QUOTE_CHARS_MIN: usize = 24;
/// The same where words are written without spaces.
const QUOTE_CHARS_MIN_UNSPACED: usize = 8;
/// Bytes of an instruction; what is left beside quotes is none if it is shorter.
const INSTRUCTION_BYTES_MIN: usize = 8;
/// What begins and ends a block of code.
const FENCE: &str = "```";
/// What code has and texts have not.
const CODE: [&str; 10] = ["```", "();", "{\n", "def ", "fn ", "=>", "==", "://", "select ", "</"];

/// Buckets, while they are collected.
#[derive(Debug, Default)]
pub(super) struct Tokens(Vec<u16>);

impl Tokens {
    /// Each once, ascending.
    pub(super) fn into_sorted(mut self) -> Vec<u16> {
        self.0.sort_unstable();
        self.0.dedup();
        self.0
    }

    fn word(&mut self, word: &str) {
        self.add('u', word.chars());
        let marked: Vec<char> = std::iter::once('^').chain(word.chars()).chain(['$']).collect();
        for piece in PIECE_CHARS.flat_map(|chars| marked.windows(chars)) {
            self.add('c', piece.iter().copied());
        }
    }

    fn unspaced(&mut self, run: &str) {
        let chars: Vec<char> = run.chars().collect();
        for one in &chars {
            self.add('c', [*one].into_iter());
        }
        for pair in chars.windows(2) {
            self.add('u', pair.iter().copied());
        }
    }

    /// One of the first words, again as such.
    fn first(&mut self, place: usize, word: &str) {
        self.add('f', word.chars());
        if place == 0 {
            self.add('1', word.chars());
        }
    }

    /// FNV-1a, folded: spreads well enough, is fast, and the same everywhere.
    fn add(&mut self, kind: char, chars: impl Iterator<Item = char>) {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for char in std::iter::once(kind).chain(chars) {
            hash = (hash ^ u64::from(u32::from(char))).wrapping_mul(0x0100_0000_01b3);
        }
        let bucket = (hash ^ (hash >> 29)) % BUCKETS as u64;
        self.0.push(u16::try_from(bucket).unwrap_or_default());
    }
}

/// What is counted in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measures {
    pub(super) questions: usize,
    words: usize,
    long_words: usize,
    word_chars: usize,
}

impl Measures {
    /// Those of a text in lower case; its words go into `tokens`.
    pub(super) fn of(text: &str, tokens: &mut Tokens) -> Self {
        let questions = text.matches(['?', '？', '؟']).count();
        let mut found = Self { questions, ..Self::default() };
        for word in text.split(|c: char| !c.is_alphanumeric()) {
            found.word(word, tokens);
        }
        found
    }

    fn word(&mut self, word: &str, tokens: &mut Tokens) {
        let Some(begin) = word.chars().next() else { return };
        if begin.is_numeric() {
            return tokens.add('u', std::iter::once('0'));
        }
        for run in runs(word) {
            let chars = run.chars().count();
            if self.words < FIRST_WORDS {
                tokens.first(self.words, run);
            }
            self.words += 1;
            self.word_chars += chars;
            if run.chars().next().is_some_and(is_unspaced) {
                tokens.unspaced(run);
            } else {
                self.long_words += usize::from(chars >= LONG_CHARS);
                tokens.word(run);
            }
        }
    }

    pub(super) fn word_length(&self) -> f64 {
        number(self.word_chars) / number(self.words.max(1))
    }

    pub(super) fn long_words_share(&self) -> f64 {
        number(self.long_words) / number(self.words.max(1))
    }
}

/// Marks of code in a text in lower case.
pub(super) fn code(text: &str) -> usize {
    CODE.iter().map(|mark| text.matches(mark).count()).sum()
}

/// A word's runs of one kind of script.
fn runs(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        let kind = is_unspaced(rest.chars().next()?);
        let end = rest.char_indices().find(|(_, c)| is_unspaced(*c) != kind);
        let (run, after) = rest.split_at(end.map_or(rest.len(), |(at, _)| at));
        rest = after;
        Some(run)
    })
}

/// Whether words of this script stand without spaces: kana and Chinese characters.
fn is_unspaced(c: char) -> bool {
    ('\u{3040}'..='\u{9fff}').contains(&c)
}

/// A text without what is quoted at length or fenced in it, which is what is asked about and not
/// what is asked. The whole, if nothing is left.
pub(super) fn without_quotes(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let quoted = match rest.strip_prefix(FENCE) {
            Some(after) => Some(after.find(FENCE).map_or(after.len(), |end| end + FENCE.len()))
                .map(|inside| FENCE.len() + inside),
            None => quote(c, rest),
        };
        let taken = quoted.unwrap_or_else(|| c.len_utf8());
        let (piece, after) = rest.split_at(taken);
        kept.push_str(if quoted.is_some_and(|bytes| is_long(c, bytes, piece)) {
            " "
        } else {
            piece
        });
        rest = after;
    }
    let asked = without_paste(&kept);
    if asked.trim().len() < INSTRUCTION_BYTES_MIN { text.to_owned() } else { asked }
}

/// A text without what stands below its first colon or empty line, but for a last line that asks.
fn without_paste(text: &str) -> String {
    let mut lines = text.split_inclusive('\n');
    let mut head = String::new();
    for line in lines.by_ref() {
        head.push_str(line);
        if line.trim_end().ends_with([':', '：']) || line.trim().is_empty() {
            break;
        }
    }
    let rest: String = lines.collect();
    if rest.len() < PASTE_BYTES_MIN {
        return text.to_owned();
    }
    let last = rest.trim_end().lines().last().unwrap_or_default();
    if last.ends_with(['?', '？']) {
        head.push_str(last);
    }
    head
}

/// How many bytes a quote has that begins a text, with its marks.
fn quote(begin: char, text: &str) -> Option<usize> {
    let ends: &[char] = match begin {
        '"' => &['"'],
        '“' => &['”'],
        '„' => &['“', '”', '"'],
        '«' => &['»'],
        '「' => &['」'],
        '『' => &['』'],
        _ => return None,
    };
    let inside = text.get(begin.len_utf8()..)?;
    let (at, end) = inside.char_indices().find(|(_, c)| ends.contains(c))?;
    Some(begin.len_utf8() + at + end.len_utf8())
}

fn is_long(begin: char, bytes: usize, piece: &str) -> bool {
    match begin {
        '`' => true,
        '「' | '『' => piece.chars().count() >= QUOTE_CHARS_MIN_UNSPACED + 2,
        _ => bytes >= QUOTE_CHARS_MIN + 2 && piece.chars().count() >= QUOTE_CHARS_MIN + 2,
    }
}
