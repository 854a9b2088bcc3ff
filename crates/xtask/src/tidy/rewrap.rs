//! Breaks line comments that are too wide, paragraph by paragraph: rustfmt leaves comments alone.
//!
//! Only a paragraph with a line that is too wide is touched. Headings, tables, fenced code, and
//! anything with runs of spaces in it (drawings) stay as they are, and a code span is never broken.

use super::sizes::COLUMNS_MAX;

/// Comment markers, longest first.
const MARKERS: &[&str] = &["///", "//!", "//"];

/// The text with its wide comments broken; the same text if there are none.
pub(super) fn rewrap(source: &str) -> String {
    let mut done = Rewrapped::default();
    for line in source.split('\n') {
        match comment(line) {
            Some((prefix, text)) => done.take_comment(line, prefix, text),
            None => done.take_other(line),
        }
    }
    done.flush();
    done.lines.join("\n")
}

/// Marker with its indentation, and the text after it, if a line is nothing but a comment.
fn comment(line: &str) -> Option<(&str, &str)> {
    let indent = line.len() - line.trim_start().len();
    let marker = MARKERS.iter().find(|marker| line[indent..].starts_with(**marker))?;
    let (prefix, text) = line.split_at(indent + marker.len());
    (text.is_empty() || text.starts_with(' ')).then(|| (prefix, text.get(1..).unwrap_or("")))
}

/// The lines so far, and the paragraph that is still open.
#[derive(Default)]
struct Rewrapped<'a> {
    lines: Vec<String>,
    /// The open paragraph's lines, whole and without their marker.
    paragraph: Vec<(&'a str, &'a str)>,
    /// Its marker with indentation.
    prefix: &'a str,
    /// Whether a fenced block is open.
    fenced: bool,
}

impl<'a> Rewrapped<'a> {
    fn take_other(&mut self, line: &str) {
        self.flush();
        self.fenced = false;
        self.lines.push(line.to_owned());
    }

    fn take_comment(&mut self, line: &'a str, prefix: &'a str, text: &'a str) {
        if prefix != self.prefix {
            self.flush();
            self.fenced = false;
            self.prefix = prefix;
        }
        let is_fence = text.trim_start().starts_with("```");
        self.fenced ^= is_fence;
        if is_fence || self.fenced || text.trim().is_empty() || text.starts_with(['#', '|']) {
            self.flush();
            self.lines.push(line.to_owned());
            return;
        }
        if item_marker(text).is_some() {
            self.flush();
        }
        self.paragraph.push((line, text));
    }

    fn flush(&mut self) {
        let paragraph = std::mem::take(&mut self.paragraph);
        let is_wide = paragraph.iter().any(|(line, _)| line.chars().count() > COLUMNS_MAX);
        let is_drawn = paragraph.iter().any(|(_, text)| text.trim().contains("  "));
        if is_wide && !is_drawn {
            self.lines.extend(wrap(self.prefix, &paragraph));
        } else {
            self.lines.extend(paragraph.into_iter().map(|(line, _)| line.to_owned()));
        }
    }
}

/// The paragraph in lines that fit, list items with a hanging indent.
fn wrap(prefix: &str, paragraph: &[(&str, &str)]) -> Vec<String> {
    let texts: Vec<&str> = paragraph.iter().map(|(_, text)| *text).collect();
    let text = texts.join(" ");
    let spaces = " ".repeat(text.len() - text.trim_start().len());
    let first = item_marker(&text).map_or(spaces, str::to_owned);
    let hanging = " ".repeat(first.chars().count());
    let mut lines = Vec::new();
    let mut line = format!("{prefix} {first}");
    let mut is_empty = true;
    for word in words(&text[first.len()..]) {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > COLUMNS_MAX {
            lines.push(std::mem::replace(&mut line, format!("{prefix} {hanging}")));
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(&word);
        is_empty = false;
    }
    lines.push(line);
    lines
}

/// The start of a list item with the space after it: `- `, `* `, `1. `.
fn item_marker(text: &str) -> Option<&str> {
    let indent = text.len() - text.trim_start().len();
    let (marker, _) = text[indent..].split_once(' ')?;
    let digits = marker.strip_suffix(['.', ')']).unwrap_or("");
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let is_item = matches!(marker, "-" | "*") || is_number;
    is_item.then(|| &text[..indent + marker.len() + 1])
}

/// Words, a code span counting as part of one.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut in_code = false;
    for word in text.split_whitespace() {
        match words.last_mut() {
            Some(last) if in_code => {
                last.push(' ');
                last.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
        in_code ^= word.matches('`').count() % 2 == 1;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::rewrap;

    /// `count` words of four letters.
    fn filler(count: usize) -> String {
        vec!["word"; count].join(" ")
    }

    #[test]
    fn wide_comments_are_broken_and_the_rest_is_not() {
        let kept = "//! Short.\n\nfn a() {} // a comment after code stays where it is\n";
        assert_eq!(rewrap(kept), kept);
        let wide = format!("    /// {}\n    /// tail\n    fn b();\n", filler(20));
        let expected = format!("    /// {}\n    /// {} tail\n    fn b();\n", filler(18), filler(2));
        assert_eq!(rewrap(&wide), expected);
        assert_eq!(rewrap(&expected), expected);
    }

    #[test]
    fn list_items_hang() {
        let wide = format!("/// - {}\n/// - next\n", filler(20));
        let expected = format!("/// - {}\n///   {}\n/// - next\n", filler(19), filler(1));
        assert_eq!(rewrap(&wide), expected);
    }

    #[test]
    fn drawings_tables_headings_and_code_stay() {
        let long = filler(25);
        let kept = format!(
            "/// # {long}\n/// | {long} |\n/// ```\n/// {long}\n/// ```\n///\n/// a  ─►  {long}\n"
        );
        assert_eq!(rewrap(&kept), kept);
    }

    #[test]
    fn code_spans_stay_whole() {
        let wide = format!("// {} `a code span` end\n", filler(19));
        assert_eq!(rewrap(&wide), format!("// {}\n// `a code span` end\n", filler(19)));
    }
}
