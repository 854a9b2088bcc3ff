//! `[[rate_limits]]`: what callers may do in a length of time, and at once.
//!
//! What is read here is what `/api/rate-limits` takes too, so that one check serves both. How Calls
//! are held to limits is `pipeline`'s business.

use std::collections::BTreeMap;
use std::time::Duration;

use pipeline::RateLimit;
use pipeline::rates::{Each, Kind, RateQueue, RateScope, Technique};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use types::Money;
use types::principal::DEFAULT_ACCOUNT;

use super::file::{duration, some_duration};

/// The length of time of a limit that only says how many run at once.
const NO_TIME: Duration = Duration::from_mins(1);

/// A limit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RateLimitEntry {
    /// Its name.
    pub(crate) name: String,
    /// Whose Calls it counts: `"account"` (default), or one or more of `key`, `user`, `class` and
    /// `model`, all of which must hold.
    #[serde(default, deserialize_with = "scope")]
    pub(crate) scope: ScopeEntry,
    /// Whom of these it counts apart: `key`, `user`, `session` or `task`. Default: nobody.
    #[serde(default, deserialize_with = "each")]
    pub(crate) each: Option<Each>,
    /// The most Calls within `per`.
    pub(crate) requests: Option<u64>,
    /// The most tokens of requests and answers together.
    pub(crate) tokens: Option<u64>,
    /// The most tokens of requests.
    pub(crate) input_tokens: Option<u64>,
    /// The most tokens of answers.
    pub(crate) output_tokens: Option<u64>,
    /// The most that they may cost, in dollars.
    pub(crate) cost_usd: Option<Money>,
    /// The length of time, such as `"1m"`. Needed where anything is counted.
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) per: Option<Duration>,
    /// `sliding` (default) or `fixed`.
    #[serde(default, deserialize_with = "technique")]
    pub(crate) technique: Technique,
    /// The most Calls that run at once.
    pub(crate) concurrency: Option<u32>,
    /// Who may wait for room. Default: nobody.
    pub(crate) queue: Option<QueueEntry>,
}

/// Whose Calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ScopeEntry {
    /// The key of this name.
    pub(crate) key: Option<String>,
    /// This user's.
    pub(crate) user: Option<String>,
    /// Of this request class.
    pub(crate) class: Option<String>,
    /// Those that ask for this model or route.
    pub(crate) model: Option<String>,
}

/// Who may wait.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueEntry {
    /// Calls that wait at most.
    pub(crate) calls: u32,
    /// How long each waits at most.
    #[serde(deserialize_with = "duration")]
    pub(crate) time: Duration,
    /// How often a class comes round beside others. Default 1.
    #[serde(default)]
    pub(crate) weights: BTreeMap<String, u32>,
}

impl RateLimitEntry {
    /// What it counts, in the order in which that is counted.
    pub(crate) fn most(&self) -> Vec<(Kind, u64)> {
        let cost = self.cost_usd.map(|cost| u64::try_from(cost.nanodollars()).unwrap_or(0));
        let most = |kind| match kind {
            Kind::Requests => self.requests,
            Kind::Tokens => self.tokens,
            Kind::InputTokens => self.input_tokens,
            Kind::OutputTokens => self.output_tokens,
            Kind::Cost => cost,
        };
        Kind::ALL.into_iter().filter_map(|kind| Some((kind, most(kind)?))).collect()
    }

    /// The limit that it is.
    pub(crate) fn limit(&self) -> RateLimit {
        let ScopeEntry { key, user, class, model } = self.scope.clone();
        let queue = self.queue.clone();
        RateLimit {
            account: DEFAULT_ACCOUNT.to_owned(),
            name: self.name.clone(),
            scope: RateScope { key, user, class, model },
            each: self.each,
            most: self.most(),
            per: self.per.unwrap_or(NO_TIME),
            technique: self.technique,
            concurrency: self.concurrency,
            queue: queue.map(|QueueEntry { calls, time, weights }| RateQueue {
                calls,
                time,
                weights,
            }),
        }
    }
}

fn scope<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ScopeEntry, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Word(String),
        Of(ScopeEntry),
    }
    match Written::deserialize(deserializer) {
        Ok(Written::Word(word)) if word == "account" => Ok(ScopeEntry::default()),
        Ok(Written::Of(scope)) if scope != ScopeEntry::default() => Ok(scope),
        Ok(Written::Word(_) | Written::Of(_)) | Err(_) => Err(D::Error::custom(
            "must be \"account\", or a table of one or more of key, user, class and model",
        )),
    }
}

fn each<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Each>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let found = Each::ALL.into_iter().find(|each| each.name() == text);
    let known = || Each::ALL.map(Each::name).join(", ");
    let wrong = || D::Error::custom(format!("\"{text}\" is not one of: {}", known()));
    found.map(Some).ok_or_else(wrong)
}

fn technique<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Technique, D::Error> {
    let text = String::deserialize(deserializer)?;
    let all = [Technique::Sliding, Technique::Fixed];
    let found = all.into_iter().find(|technique| technique.name() == text);
    found.ok_or_else(|| D::Error::custom(format!("\"{text}\" is not one of: sliding, fixed")))
}
