//! `[routes.auto]`: which of a route's models are for easy tasks, and which for hard ones.
//!
//! Read by the file and by `/api/routes` alike. How a task is judged is the pipeline's business.

use std::ops::RangeInclusive;

use pipeline::route::choice::{Candidate, What};
use serde::Deserialize;
use types::auto::AutoPolicy;

/// A score at 0 would send all to the strong tier, one above 100 none.
const THRESHOLD: RangeInclusive<u8> = 1..=100;

/// The table.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct AutoEntry {
    /// Models for easy tasks, each as `provider/model`.
    pub(crate) cheap: Vec<String>,
    /// Models for hard ones.
    pub(crate) strong: Vec<String>,
    /// The score, 1 to 100, from which on a task is hard. Default 50.
    pub(crate) threshold: Option<u8>,
    /// Whether the strong tier is asked whatever is decided, and what would have been saved is
    /// noted. Default false.
    #[serde(default)]
    pub(crate) shadow: bool,
    /// Whether a caller may choose by the header `holdfast-tier`. Default true.
    pub(crate) header: Option<bool>,
}

impl AutoEntry {
    /// The policy that it is.
    pub(crate) fn policy(&self) -> AutoPolicy {
        AutoPolicy {
            cheap: self.cheap.clone(),
            strong: self.strong.clone(),
            threshold: self.threshold.unwrap_or(AutoPolicy::THRESHOLD),
            shadow: self.shadow,
            by_header: self.header.unwrap_or(true),
            asked: None,
        }
    }

    /// Its models as a route's targets, where the route names none itself.
    pub(crate) fn targets(&self) -> Vec<Candidate> {
        let models = self.cheap.iter().chain(&self.strong).cloned();
        models
            .map(|model| Candidate { what: What::Model(model), when: None, weight: None })
            .collect()
    }

    /// What is wrong with it, by field. `models` are those of the route.
    pub(crate) fn problems(&self, models: &[String]) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut add = |field: String, text: String| found.push((field, text));
        for (field, tier) in [("cheap", &self.cheap), ("strong", &self.strong)] {
            if tier.is_empty() {
                add(field.to_owned(), "must name at least one model".to_owned());
            }
            for (place, model) in tier.iter().enumerate() {
                let at = format!("{field}[{place}]");
                let before = tier.get(..place).unwrap_or_default();
                if before.contains(model) || (field == "strong" && self.cheap.contains(model)) {
                    add(at, format!("\"{model}\" is there twice"));
                } else if !models.contains(model) {
                    add(at, format!("\"{model}\" is none of the route's targets"));
                }
            }
        }
        if self.threshold.is_some_and(|threshold| !THRESHOLD.contains(&threshold)) {
            let (least, most) = (THRESHOLD.start(), THRESHOLD.end());
            add("threshold".to_owned(), format!("must be {least} to {most}"));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str, models: &[&str]) -> Vec<String> {
        let models: Vec<_> = models.iter().map(|model| (*model).to_owned()).collect();
        let entry: AutoEntry = toml::from_str(text).unwrap();
        entry.problems(&models).into_iter().map(|(field, _)| field).collect()
    }

    #[test]
    fn what_is_set_is_the_policy_and_the_rest_has_its_defaults() {
        let plain: AutoEntry =
            toml::from_str("cheap = [\"a/small\"]\nstrong = [\"a/large\"]").unwrap();
        let policy = plain.policy();
        assert_eq!((policy.threshold, policy.shadow, policy.by_header), (50, false, true));
        let models = ["a/small", "a/large"].map(|name| What::Model(name.to_owned()));
        let targets: Vec<_> = plain.targets().into_iter().map(|target| target.what).collect();
        assert_eq!(targets, models);
        let all =
            "cheap = [\"a/s\"]\nstrong = [\"a/l\"]\nthreshold = 70\nshadow = true\nheader = false";
        let policy = toml::from_str::<AutoEntry>(all).unwrap().policy();
        assert_eq!((policy.threshold, policy.shadow, policy.by_header), (70, true, false));
        assert!(toml::from_str::<AutoEntry>("cheap = []\nstrong = []\nlimit = 1").is_err());
    }

    #[test]
    fn what_is_wrong_has_its_field() {
        let good = "cheap = [\"a/s\"]\nstrong = [\"a/l\"]";
        assert!(problems(good, &["a/s", "a/l"]).is_empty());
        assert_eq!(problems(good, &["a/s"]), ["strong[0]"]);
        assert_eq!(problems("cheap = []\nstrong = []", &[]), ["cheap", "strong"]);
        let twice = "cheap = [\"a/s\", \"a/s\"]\nstrong = [\"a/s\"]";
        assert_eq!(problems(twice, &["a/s"]), ["cheap[1]", "strong[0]"]);
        for wrong in [0, 101] {
            let text = format!("{good}\nthreshold = {wrong}");
            assert_eq!(problems(&text, &["a/s", "a/l"]), ["threshold"]);
        }
    }
}
