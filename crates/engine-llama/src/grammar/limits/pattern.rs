//! How much work a regular expression is, read off its text.
//!
//! It is no parser: what it can't read it takes for plain characters, and the compiler says what is
//! wrong with it.

/// What a pattern comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Work {
    /// Characters, with counted repetitions written out.
    pub(super) size: u64,
    /// Sets of characters that it tells apart, at most.
    pub(super) choices: u64,
}

/// Sets of characters that every pattern has: those of its surroundings.
const CHOICES_BASE: u64 = 2;

/// The work of a pattern.
pub(super) fn work(pattern: &str) -> Work {
    let mut choices = CHOICES_BASE;
    // The size of each open group, and of the last item in it, which a repetition multiplies.
    let mut groups = vec![(0_u64, 0_u64)];
    let mut rest = pattern.chars();
    while let Some(character) = rest.next() {
        let item = match character {
            '(' => {
                groups.push((0, 0));
                continue;
            }
            ')' if groups.len() > 1 => groups.pop().map_or(0, |(size, _)| size),
            '[' => {
                choices += 1;
                skip_class(&mut rest);
                1
            }
            '\\' => {
                choices += 1;
                rest.next();
                1
            }
            '{' => {
                let (times, length) = repetition(rest.as_str());
                if length > 0 {
                    rest.nth(length - 1);
                    if let Some((size, last)) = groups.last_mut() {
                        let more = last.saturating_mul(times.saturating_sub(1));
                        (*size, *last) = (size.saturating_add(more), last.saturating_add(more));
                    }
                    continue;
                }
                1
            }
            '.' | '^' | '$' => {
                choices += u64::from(character == '.');
                1
            }
            '*' | '+' | '?' | '|' => continue,
            _ => 1,
        };
        if let Some((size, last)) = groups.last_mut() {
            (*size, *last) = (size.saturating_add(item), item);
        }
    }
    // Groups that are never closed count as if they were.
    let size = groups.iter().fold(0_u64, |sum, (size, _)| sum.saturating_add(*size));
    Work { size, choices }
}

/// Skips a class of characters behind its opening bracket.
fn skip_class(rest: &mut std::str::Chars<'_>) {
    let mut first = true;
    while let Some(character) = rest.next() {
        match character {
            '\\' => {
                rest.next();
            }
            // A bracket that comes first stands for itself.
            ']' if !first => return,
            '^' if first => continue,
            _ => {}
        }
        first = false;
    }
}

/// Reads `2}`, `2,}` or `2,7}`: how often at most (or, without an end, at least), and how many
/// bytes of the text that is. A length of 0: it is no repetition.
fn repetition(text: &str) -> (u64, usize) {
    let Some(end) = text.find('}') else { return (1, 0) };
    let inside = &text[..end];
    let is_count = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    // More digits than a number holds are as good as no limit.
    let number = |text: &str| text.parse().unwrap_or(u64::MAX);
    let (least, most) = inside.split_once(',').unwrap_or((inside, inside));
    if !is_count(least) || !is_count(most) || inside.is_empty() {
        return (1, 0);
    }
    let least = if least.is_empty() { 0 } else { number(least) };
    let most = if most.is_empty() { least } else { number(most) };
    (least.max(most).max(1), end + 1)
}
