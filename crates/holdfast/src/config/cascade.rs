//! `[routes.cascade]`: what an answer must be like while a dearer target is left.
//!
//! One table, read by the file and by `/api/routes` alike. How answers are judged, and what that
//! costs, is the pipeline's business.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use types::cascade::{CascadePolicy, JudgePolicy, Pattern, SchemaOf};

use super::file::some_duration;

/// Says that the schema is the request's own.
const REQUEST: &str = "request";
/// Expressions of one list at most: each is searched for in every answer.
const PATTERNS_MAX: usize = 16;
/// Characters of an expression at most.
const PATTERN_CHARS_MAX: usize = 1_024;
/// Bytes of a schema as JSON at most.
const SCHEMA_BYTES_MAX: usize = 64 * 1024;
/// Characters of the judge's prompt at most.
const PROMPT_CHARS_MAX: usize = 4_096;
/// Output cap of the judge, unless the table says otherwise, in tokens: a score is ten, a model
/// that thinks needs more.
const JUDGE_TOKENS: u64 = 512;
/// Caps of the judge: less is no score, more is no judge.
const TOKENS: RangeInclusive<u64> = 16..=16_384;
/// How long the judge may take, unless the table says otherwise.
const JUDGE_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest time for it: the client waits.
const JUDGE_TIMEOUT_MAX: Duration = Duration::from_secs(120);
/// The score from which on an answer is given, unless the table says otherwise.
const THRESHOLD: u8 = 70;
/// Scores.
const SCORES: RangeInclusive<u8> = 1..=100;
/// Log probabilities in millionths that a mean can have.
const LOGPROBS: RangeInclusive<i64> = -20_000_000..=0;

/// The table. Answers must pass all that it sets.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CascadeEntry {
    /// An answer says something or calls a tool.
    pub(crate) not_empty: bool,
    /// An answer was not cut by the output cap.
    pub(crate) complete: bool,
    /// An answer is no refusal.
    pub(crate) no_refusal: bool,
    /// Calls are of tools that the request declares, with arguments by their schemas.
    pub(crate) tool_arguments: bool,
    /// A JSON schema that the text follows; `request` = the one that the request asks for.
    pub(crate) json_schema: Option<Value>,
    /// Regular expressions that are all found in the text.
    pub(crate) must_match: Vec<String>,
    /// Regular expressions that are not found in the text.
    pub(crate) must_not_match: Vec<String>,
    /// The lowest mean of the tokens' log probabilities, such as -0.5; in millionths here.
    #[serde(rename = "min_logprob", deserialize_with = "micros")]
    pub(crate) min_logprob_micros: Option<i64>,
    /// A model that is asked how good the answer is.
    pub(crate) judge: Option<JudgeEntry>,
}

/// The table of the judge.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct JudgeEntry {
    /// The model, as `provider/model`.
    pub(crate) model: String,
    /// The lowest score of 1 to 100 with which an answer is given. Default 70.
    pub(crate) threshold: Option<u8>,
    /// What makes an answer good.
    pub(crate) prompt: Option<String>,
    /// Output cap. Default 512.
    pub(crate) max_tokens: Option<u64>,
    /// How long it may take. Default 30 s.
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) timeout: Option<Duration>,
    /// What follows when it fails: `accept` (default) or `escalate`.
    #[serde(default)]
    pub(crate) on_failure: OnFailure,
}

/// What follows when the judge fails.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnFailure {
    /// The answer is given.
    #[default]
    Accept,
    /// The next target is asked.
    Escalate,
}

impl CascadeEntry {
    /// The policy that it is.
    pub(crate) fn policy(&self) -> CascadePolicy {
        // What can't be compiled was refused before.
        let compiled = |list: &[String]| -> Vec<Pattern> {
            list.iter().filter_map(|text| Pattern::new(text).ok()).collect()
        };
        CascadePolicy {
            not_empty: self.not_empty,
            complete: self.complete,
            no_refusal: self.no_refusal,
            tool_arguments: self.tool_arguments,
            json_schema: self.json_schema.as_ref().map(|schema| match schema.as_str() {
                Some(_) => SchemaOf::Request,
                None => SchemaOf::Given(schema.clone()),
            }),
            must_match: compiled(&self.must_match),
            must_not_match: compiled(&self.must_not_match),
            min_logprob_micros: self.min_logprob_micros,
            judge: self.judge.as_ref().map(JudgeEntry::policy),
        }
    }

    /// What is wrong with it, by field. `is_model` says whether a name can be asked for.
    pub(crate) fn problems(&self, is_model: &dyn Fn(&str) -> bool) -> Vec<(String, String)> {
        let mut found = Vec::new();
        if self.policy() == CascadePolicy::default()
            && self.lists().iter().all(|(_, l)| l.is_empty())
        {
            found.push(("not_empty".to_owned(), "nothing is asked of answers".to_owned()));
        }
        if let Some(schema) = &self.json_schema
            && let Some(message) = wrong_schema(schema)
        {
            found.push(("json_schema".to_owned(), message));
        }
        for (field, list) in self.lists() {
            if list.len() > PATTERNS_MAX {
                found.push((field.to_owned(), format!("has more than {PATTERNS_MAX} expressions")));
            }
            for (place, text) in list.iter().enumerate() {
                if let Some(message) = wrong_pattern(text) {
                    found.push((format!("{field}[{place}]"), message));
                }
            }
        }
        if self.min_logprob_micros.is_some_and(|least| !LOGPROBS.contains(&least)) {
            found.push(("min_logprob".to_owned(), "must be -20 to 0".to_owned()));
        }
        let of_judge = self.judge.iter().flat_map(|judge| judge.problems(is_model));
        found.extend(of_judge.map(|(field, text)| (format!("judge.{field}"), text.to_owned())));
        found
    }

    fn lists(&self) -> [(&'static str, &[String]); 2] {
        [("must_match", &self.must_match), ("must_not_match", &self.must_not_match)]
    }
}

impl JudgeEntry {
    /// The policy that it is.
    pub(super) fn policy(&self) -> JudgePolicy {
        JudgePolicy {
            model: self.model.clone(),
            threshold: self.threshold.unwrap_or(THRESHOLD),
            prompt: self.prompt.clone(),
            output_tokens: self.max_tokens.unwrap_or(JUDGE_TOKENS),
            timeout: self.timeout.unwrap_or(JUDGE_TIMEOUT),
            escalate_on_failure: self.on_failure == OnFailure::Escalate,
        }
    }

    /// What is wrong with it, by field.
    pub(super) fn problems(
        &self,
        is_model: &dyn Fn(&str) -> bool,
    ) -> Vec<(&'static str, &'static str)> {
        let mut found = Vec::new();
        if !is_model(&self.model) {
            found.push(("model", "must be a model of a configured provider: provider/model"));
        }
        if self.threshold.is_some_and(|score| !SCORES.contains(&score)) {
            found.push(("threshold", "must be 1 to 100"));
        }
        if self.max_tokens.is_some_and(|tokens| !TOKENS.contains(&tokens)) {
            found.push(("max_tokens", "must be 16 to 16384"));
        }
        let is_wrong = |time: Duration| time.is_zero() || time > JUDGE_TIMEOUT_MAX;
        if self.timeout.is_some_and(is_wrong) {
            found.push(("timeout", "must be longer than 0 and at most 2 minutes"));
        }
        let length = self.prompt.as_ref().map_or(0, |prompt| prompt.chars().count());
        if length > PROMPT_CHARS_MAX {
            found.push(("prompt", "must have at most 4096 characters"));
        }
        found
    }
}

fn wrong_schema(schema: &Value) -> Option<String> {
    match schema {
        Value::String(text) if text == REQUEST => None,
        Value::Object(_) if schema.to_string().len() <= SCHEMA_BYTES_MAX => None,
        Value::Object(_) => Some(format!("is longer than {SCHEMA_BYTES_MAX} bytes")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Some(format!("must be \"{REQUEST}\" or a table: the JSON schema itself"))
        }
    }
}

fn wrong_pattern(text: &str) -> Option<String> {
    if text.chars().count() > PATTERN_CHARS_MAX {
        return Some(format!("has more than {PATTERN_CHARS_MAX} characters"));
    }
    Pattern::new(text).err()
}

/// A decimal number, in millionths.
fn micros<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let Some(number) = Option::<f64>::deserialize(deserializer)? else { return Ok(None) };
    let micros = (number * 1e6).round();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "what is too large is refused by its range"
    )]
    Ok(Some(micros as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> CascadeEntry {
        toml::from_str(text).unwrap()
    }

    fn problems(text: &str) -> Vec<String> {
        let is_model = |name: &str| name == "a/judge";
        read(text).problems(&is_model).into_iter().map(|(field, _)| field).collect()
    }

    #[test]
    fn what_is_set_is_the_policy() {
        let all = read(
            "not_empty = true\ncomplete = true\nno_refusal = true\ntool_arguments = true\n\
             json_schema = { type = \"object\", required = [\"a\"] }\nmust_match = [\"^a\"]\n\
             must_not_match = [\"(?i)sorry\"]\nmin_logprob = -0.25\n\
             judge = { model = \"a/judge\", on_failure = \"escalate\" }",
        );
        assert_eq!(all.problems(&|name| name == "a/judge"), []);
        let policy = all.policy();
        assert!(policy.not_empty && policy.complete && policy.no_refusal && policy.tool_arguments);
        let schema = serde_json::json!({ "type": "object", "required": ["a"] });
        assert_eq!(policy.json_schema, Some(SchemaOf::Given(schema)));
        assert_eq!(policy.must_match, [Pattern::new("^a").unwrap()]);
        assert_eq!(policy.must_not_match, [Pattern::new("(?i)sorry").unwrap()]);
        assert_eq!(policy.min_logprob_micros, Some(-250_000));
        let judge = policy.judge.unwrap();
        assert_eq!((judge.threshold, judge.output_tokens), (70, 512));
        assert!(judge.escalate_on_failure);
        let request = read("json_schema = \"request\"").policy();
        assert_eq!(request.json_schema, Some(SchemaOf::Request));
        assert_eq!(
            request,
            CascadePolicy { json_schema: Some(SchemaOf::Request), ..CascadePolicy::default() }
        );
    }

    #[test]
    fn what_is_wrong_has_its_field() {
        assert_eq!(problems(""), ["not_empty"]);
        assert_eq!(problems("not_empty = false"), ["not_empty"]);
        assert_eq!(problems("json_schema = \"other\""), ["json_schema"]);
        assert_eq!(problems("json_schema = 1"), ["json_schema"]);
        assert_eq!(problems("must_match = [\"a\", \"(\"]"), ["must_match[1]"]);
        assert_eq!(problems("must_not_match = [\"(?=a)\"]"), ["must_not_match[0]"]);
        assert_eq!(problems("min_logprob = 0.5"), ["min_logprob"]);
        assert_eq!(problems("judge = { model = \"b/judge\" }"), ["judge.model"]);
        let judge =
            "judge = { model = \"a/judge\", threshold = 0, max_tokens = 1, timeout = \"0s\" }";
        assert_eq!(problems(judge), ["judge.threshold", "judge.max_tokens", "judge.timeout"]);
        assert!(toml::from_str::<CascadeEntry>("regex = \"a\"").is_err());
        assert!(toml::from_str::<CascadeEntry>("judge = { threshold = 5 }").is_err());
    }
}
