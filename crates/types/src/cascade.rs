//! What a route asks of an answer before it is given: the settings of its cascade, as data.
//!
//! A cheap target answers first; an answer that a validator rejects is not given, and the next
//! target is asked. How answers are judged and what pays for it is the pipeline's business; nothing
//! here decides.

use std::time::Duration;

use regex::{Regex, RegexBuilder};
use serde_json::Value;

/// Bytes of a compiled expression at most, and of what it keeps while it searches.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// What an answer must be like. All that is set must hold; nothing set = every answer is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CascadePolicy {
    /// It says something, or calls a tool.
    pub not_empty: bool,
    /// It was not cut by the output cap.
    pub complete: bool,
    /// It is no refusal, and was not filtered.
    pub no_refusal: bool,
    /// Its calls are of tools that the request declares, with arguments as those ask for.
    pub tool_arguments: bool,
    /// Its text is JSON of this schema.
    pub json_schema: Option<SchemaOf>,
    /// Its text matches each of these.
    pub must_match: Vec<Pattern>,
    /// Its text matches none of these.
    pub must_not_match: Vec<Pattern>,
    /// The mean of its tokens' log probabilities is at least this, in millionths.
    pub min_logprob_micros: Option<i64>,
    /// A model finds it good enough. Asked last, and only of what all others accept.
    pub judge: Option<JudgePolicy>,
}

/// Which schema an answer's text must follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaOf {
    /// That of the request, if it asks for one.
    Request,
    /// This one.
    Given(Value),
}

/// A model that judges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgePolicy {
    /// The model, as `provider/model`.
    pub model: String,
    /// The lowest score of 0 to 100 with which an answer is given.
    pub threshold: u8,
    /// What makes an answer good, in the operator's words.
    pub prompt: Option<String>,
    /// Output cap, in tokens.
    pub output_tokens: u64,
    /// How long it may take.
    pub timeout: Duration,
    /// Whether an answer that could not be judged is rejected.
    pub escalate_on_failure: bool,
}

/// A regular expression whose search takes time in proportion to the text, whatever it says.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        let mut builder = RegexBuilder::new(text);
        let built = builder.size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX).build();
        built.map(Self).map_err(|error| error.to_string())
    }

    /// Whether it is found anywhere in a text.
    pub fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_found_anywhere_and_one_too_large_is_refused() {
        let pattern = Pattern::new("(?i)^ok|sure$").unwrap();
        assert!(pattern.is_in("OK then") && pattern.is_in("to be sure") && !pattern.is_in("no ok"));
        assert_eq!(pattern, Pattern::new("(?i)^ok|sure$").unwrap());
        assert_ne!(pattern, Pattern::new("ok").unwrap());
        assert!(Pattern::new("(").is_err());
        assert!(Pattern::new("(\\w{1000}){1000}").is_err());
    }
}
