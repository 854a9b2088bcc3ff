//! `[routes.auto]`: which of a route's models are for easy tasks, and which for hard ones.
//!
//! Read by the file and by `/api/routes` alike. How a task is judged is the pipeline's business.

use std::ops::RangeInclusive;
use std::time::Duration;

use pipeline::route::choice::Candidate;
use serde::{Deserialize, Deserializer};
use types::Money;
use types::auto::{AutoJudge, AutoPolicy};

use super::cascade::{JudgeEntry, OnFailure};
use super::file::some_duration;

/// A score at 0 would send all to the strong tier, one above 100 none.
const THRESHOLD: RangeInclusive<u8> = 1..=100;
/// The share of decisions that is judged, unless the table says otherwise, in millionths.
const SHARE_MILLIONTHS: u32 = AutoJudge::WHOLE / 20;

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
    /// A model that says of a share of the decisions whether they were right. Default: none.
    pub(crate) judge: Option<AutoJudgeEntry>,
}

/// The table of the judge.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct AutoJudgeEntry {
    /// The model, as `provider/model`.
    pub(crate) model: String,
    /// The share of the decisions that is judged, above 0 and at most 1; in millionths here.
    /// Default 0.05.
    #[serde(default, rename = "share", deserialize_with = "millionths")]
    pub(crate) share_millionths: Option<u32>,
    /// The lowest score of 1 to 100 of an answer that is good enough. Default 70.
    pub(crate) threshold: Option<u8>,
    /// What makes an answer good.
    pub(crate) prompt: Option<String>,
    /// Output cap. Default 512.
    pub(crate) max_tokens: Option<u64>,
    /// How long it may take. Default 30 s.
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) timeout: Option<Duration>,
    /// What judging may cost in a day of UTC. Default: what the callers' budgets have.
    pub(crate) max_usd_per_day: Option<Money>,
}

impl AutoJudgeEntry {
    /// How the model is asked, as a cascade asks its own.
    fn asked(&self) -> JudgeEntry {
        JudgeEntry {
            model: self.model.clone(),
            threshold: self.threshold,
            prompt: self.prompt.clone(),
            max_tokens: self.max_tokens,
            timeout: self.timeout,
            on_failure: OnFailure::Accept,
        }
    }

    fn policy(&self) -> AutoJudge {
        AutoJudge {
            judge: self.asked().policy(),
            share_millionths: self.share_millionths.unwrap_or(SHARE_MILLIONTHS),
            day_max: self.max_usd_per_day,
        }
    }

    fn problems(&self, is_model: &dyn Fn(&str) -> bool) -> Vec<(&'static str, &'static str)> {
        let mut found = self.asked().problems(is_model);
        let share = self.share_millionths.unwrap_or(SHARE_MILLIONTHS);
        if !(1..=AutoJudge::WHOLE).contains(&share) {
            found.push(("share", "must be above 0 and at most 1"));
        }
        if self.max_usd_per_day.is_some_and(|amount| amount <= Money::ZERO) {
            found.push(("max_usd_per_day", "must be more than 0"));
        }
        found
    }
}

/// A share, in millionths.
fn millionths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let Some(number) = Option::<f64>::deserialize(deserializer)? else { return Ok(None) };
    let millionths = (number * f64::from(AutoJudge::WHOLE)).round();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast stays in the type's range, and what is out of the setting's is refused"
    )]
    Ok(Some(millionths as u32))
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
            judge: self.judge.as_ref().map(AutoJudgeEntry::policy),
        }
    }

    /// Its models as a route's targets, where the route names none itself.
    pub(crate) fn targets(&self) -> Vec<Candidate> {
        let models = self.cheap.iter().chain(&self.strong).cloned();
        models.map(Candidate::from).collect()
    }

    /// What is wrong with it, by field. `models` are those of the route; `is_model` says whether a
    /// name can be asked for.
    pub(crate) fn problems(
        &self,
        models: &[String],
        is_model: &dyn Fn(&str) -> bool,
    ) -> Vec<(String, String)> {
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
        let of_judge = self.judge.iter().flat_map(|judge| judge.problems(is_model));
        found.extend(of_judge.map(|(field, text)| (format!("judge.{field}"), text.to_owned())));
        found
    }
}

#[cfg(test)]
mod tests {
    use pipeline::route::choice::What;

    use super::*;

    fn problems(text: &str, models: &[&str]) -> Vec<String> {
        let models: Vec<_> = models.iter().map(|model| (*model).to_owned()).collect();
        let entry: AutoEntry = toml::from_str(text).unwrap();
        let is_model = |name: &str| name == "a/judge";
        entry.problems(&models, &is_model).into_iter().map(|(field, _)| field).collect()
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
    fn a_judge_has_a_share_and_a_limit() {
        let tiers = "cheap = [\"a/s\"]\nstrong = [\"a/l\"]\n";
        let read = |judge: &str| {
            toml::from_str::<AutoEntry>(&format!("{tiers}judge = {{ model = \"a/judge\"{judge} }}"))
        };
        let judge = read("").unwrap().policy().judge.unwrap();
        assert_eq!((judge.share_millionths, judge.day_max), (50_000, None));
        assert_eq!((judge.judge.threshold, &*judge.judge.model), (70, "a/judge"));
        let all = ", share = 1, threshold = 40, max_usd_per_day = \"0.25\"";
        let judge = read(all).unwrap().policy().judge.unwrap();
        assert_eq!((judge.share_millionths, judge.judge.threshold), (1_000_000, 40));
        assert_eq!(judge.day_max, Money::parse("0.25").ok());
        let problems = |judge: &str| {
            let models = ["a/s", "a/l"].map(str::to_owned);
            let found = read(judge).unwrap().problems(&models, &|name| name == "a/judge");
            found.into_iter().map(|(field, _)| field).collect::<Vec<_>>()
        };
        assert_eq!(problems(all), Vec::<String>::new());
        for share in ["0", "1.1", "-1", "nan"] {
            assert_eq!(problems(&format!(", share = {share}")), ["judge.share"], "{share}");
        }
        let wrong = ", threshold = 101, max_usd_per_day = \"0\"";
        assert_eq!(problems(wrong), ["judge.threshold", "judge.max_usd_per_day"]);
        let unknown = format!("{tiers}judge = {{ model = \"b/judge\" }}");
        let models = ["a/s".to_owned(), "a/l".to_owned()];
        let entry: AutoEntry = toml::from_str(&unknown).unwrap();
        assert_eq!(entry.problems(&models, &|_| false)[0].0, "judge.model");
        assert!(read(", on_failure = \"escalate\"").is_err());
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
