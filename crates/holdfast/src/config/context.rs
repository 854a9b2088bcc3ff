//! `[routes.context]`: what a route does with a history that grows.
//!
//! One flat table: what is cleared begins with `clear_`, what is compacted with `compact_`. Read by
//! the file and by `/api/routes` alike. What the settings do is the pipeline's business.

use std::ops::RangeInclusive;

use serde::Deserialize;
use types::context::{ClearPolicy, CompactPolicy, ContextPolicy, Threshold};

/// Results that stay, unless the table says otherwise.
const KEEP_RESULTS: usize = 3;
/// What clearing must save at once, unless the table says otherwise, in tokens.
const CLEAR_AT_LEAST: u64 = 5_000;
/// What stays of the newest turns, unless the table says otherwise, in tokens.
const KEEP_TOKENS: u64 = 8_000;
/// Output cap of a summary, unless the table says otherwise, in tokens.
const SUMMARY_TOKENS: u64 = 1_024;
/// A share of a window that leaves room for an answer.
const PERCENT: RangeInclusive<u8> = 1..=95;
/// Caps of a summary: less says nothing, more is no summary.
const SUMMARY: RangeInclusive<u64> = 64..=16_384;
/// Results that may stay at most, and tools that may be named.
const COUNT_MAX: usize = 1_000;

/// The table.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ContextEntry {
    /// The size of a request in tokens from which on old results of tools are cleared.
    pub(crate) clear_at_tokens: Option<u64>,
    /// The same in hundredths of the target's context window.
    pub(crate) clear_at_percent: Option<u8>,
    /// How many of the newest results stay. Default 3.
    pub(crate) clear_keep_results: Option<usize>,
    /// How many tokens clearing must save at once. Default 5,000.
    pub(crate) clear_at_least_tokens: Option<u64>,
    /// Tools whose results stay.
    pub(crate) clear_exclude_tools: Vec<String>,
    /// The size of a request in tokens from which on the oldest turns are compacted.
    pub(crate) compact_at_tokens: Option<u64>,
    /// The same in hundredths of the target's context window.
    pub(crate) compact_at_percent: Option<u8>,
    /// The model that writes the summary, as `provider/model`.
    pub(crate) compact_model: Option<String>,
    /// How many tokens of the newest turns stay. Default 8,000.
    pub(crate) compact_keep_tokens: Option<u64>,
    /// Output cap of the summary. Default 1,024.
    pub(crate) compact_summary_tokens: Option<u64>,
}

impl ContextEntry {
    /// The policy that it is.
    pub(crate) fn policy(&self) -> ContextPolicy {
        let clear_at = threshold(self.clear_at_tokens, self.clear_at_percent);
        let compact_at = threshold(self.compact_at_tokens, self.compact_at_percent);
        ContextPolicy {
            clear: clear_at.map(|at| ClearPolicy {
                at,
                keep_results: self.clear_keep_results.unwrap_or(KEEP_RESULTS),
                at_least_tokens: self.clear_at_least_tokens.unwrap_or(CLEAR_AT_LEAST),
                exclude_tools: self.clear_exclude_tools.clone(),
            }),
            compact: compact_at.zip(self.compact_model.clone()).map(|(at, model)| CompactPolicy {
                at,
                model,
                keep_tokens: self.compact_keep_tokens.unwrap_or(KEEP_TOKENS),
                summary_tokens: self.compact_summary_tokens.unwrap_or(SUMMARY_TOKENS),
            }),
        }
    }

    /// What is wrong with it, by field. `is_model` says whether a name can be asked for.
    pub(crate) fn problems(&self, is_model: &dyn Fn(&str) -> bool) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut add = |field, text: &str| found.push((field, text.to_owned()));
        let clears = self.clear_at_tokens.is_some() || self.clear_at_percent.is_some();
        let compacts = self.compact_at_tokens.is_some() || self.compact_at_percent.is_some();
        if !clears && !compacts {
            add("clear_at_tokens", "nothing is set from which on something is done");
        }
        for (field, percent) in [
            ("clear_at_percent", self.clear_at_percent),
            ("compact_at_percent", self.compact_at_percent),
        ] {
            if percent.is_some_and(|percent| !PERCENT.contains(&percent)) {
                add(field, "must be 1 to 95");
            }
        }
        for (field, tokens) in [
            ("clear_at_tokens", self.clear_at_tokens),
            ("compact_at_tokens", self.compact_at_tokens),
        ] {
            if tokens == Some(0) {
                add(field, "must be more than 0");
            }
        }
        let kept = self.clear_keep_results.unwrap_or_default();
        if kept > COUNT_MAX || self.clear_exclude_tools.len() > COUNT_MAX {
            add("clear_keep_results", "must be at most 1000, as must be the tools that are named");
        }
        match self.compact_model.as_deref() {
            None if compacts => add("compact_model", "is missing: it writes the summary"),
            Some(_) if !compacts => {
                add("compact_model", "compact_at_tokens or compact_at_percent is missing");
            }
            Some(model) if !is_model(model) => {
                add("compact_model", "must be a model of a configured provider: provider/model");
            }
            Some(_) | None => {}
        }
        if self.compact_summary_tokens.is_some_and(|tokens| !SUMMARY.contains(&tokens)) {
            add("compact_summary_tokens", "must be 64 to 16384");
        }
        let keep = self.compact_keep_tokens.unwrap_or(KEEP_TOKENS);
        let summary = self.compact_summary_tokens.unwrap_or(SUMMARY_TOKENS);
        let least = summary.saturating_mul(4).saturating_add(keep);
        if self.compact_at_tokens.is_some_and(|at| at > 0 && at <= least) {
            let text = format!(
                "must be more than compact_keep_tokens and four times compact_summary_tokens \
                 together ({least}): else nothing would be saved"
            );
            add("compact_at_tokens", &text);
        }
        found
    }
}

fn threshold(tokens: Option<u64>, percent: Option<u8>) -> Option<Threshold> {
    (tokens.is_some() || percent.is_some()).then_some(Threshold { tokens, percent })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> ContextEntry {
        toml::from_str(text).unwrap()
    }

    fn problems(text: &str) -> Vec<&'static str> {
        let is_model = |name: &str| name == "a/small";
        read(text).problems(&is_model).into_iter().map(|(field, _)| field).collect()
    }

    #[test]
    fn what_is_set_is_the_policy_and_the_rest_has_its_defaults() {
        let plain = read("clear_at_tokens = 60000").policy();
        let clear = plain.clear.unwrap();
        assert_eq!((clear.keep_results, clear.at_least_tokens), (3, 5_000));
        assert_eq!(plain.compact, None);
        let both = read(
            "clear_at_percent = 50\nclear_keep_results = 1\nclear_at_least_tokens = 0\n\
             clear_exclude_tools = [\"memory\"]\ncompact_at_tokens = 90000\n\
             compact_model = \"a/small\"\ncompact_keep_tokens = 100\ncompact_summary_tokens = 64",
        );
        let policy = both.policy();
        let clear = policy.clear.unwrap();
        assert_eq!(clear.at, Threshold { tokens: None, percent: Some(50) });
        assert_eq!((clear.keep_results, clear.at_least_tokens), (1, 0));
        assert_eq!(clear.exclude_tools, ["memory"]);
        let compact = policy.compact.unwrap();
        assert_eq!(compact.at, Threshold { tokens: Some(90_000), percent: None });
        assert_eq!((compact.keep_tokens, compact.summary_tokens), (100, 64));
        assert_eq!(compact.model, "a/small");
    }

    #[test]
    fn what_is_wrong_has_its_field() {
        assert_eq!(problems(""), ["clear_at_tokens"]);
        assert_eq!(problems("clear_at_percent = 96"), ["clear_at_percent"]);
        assert_eq!(problems("clear_at_tokens = 0"), ["clear_at_tokens"]);
        assert_eq!(problems("compact_at_percent = 80"), ["compact_model"]);
        let unknown = "compact_at_percent = 80\ncompact_model = \"b/small\"";
        assert_eq!(problems(unknown), ["compact_model"]);
        assert_eq!(problems("clear_at_tokens = 1\ncompact_model = \"a/small\""), ["compact_model"]);
        let small = "compact_at_tokens = 12096\ncompact_model = \"a/small\"";
        assert_eq!(problems(small), ["compact_at_tokens"]);
        assert!(problems("compact_at_tokens = 12097\ncompact_model = \"a/small\"").is_empty());
        let long =
            "compact_at_percent = 80\ncompact_model = \"a/small\"\ncompact_summary_tokens = 9";
        assert_eq!(problems(long), ["compact_summary_tokens"]);
        assert!(toml::from_str::<ContextEntry>("clear_at = 5").is_err());
    }
}
