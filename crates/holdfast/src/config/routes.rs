//! `[[routes]]`: names for several models, and what is done when one fails.
//!
//! What is read here is what `/api/routes` takes too, so that one check serves both. Sub-tables of
//! a route have files of their own beside this one. What a route may be is for
//! [`validate`](super::validate); this module must not know the other sections.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pipeline::route::choice::{Candidate, Choice, Order, Sticky};
use serde::Deserialize;
use types::call::{RoutePolicy, TargetPolicy};

use super::auto::AutoEntry;
use super::cascade::CascadeEntry;
use super::context::ContextEntry;
use super::file::some_duration;
use cloudflare::Imported;

mod cloudflare;

/// Attempts that a route may ask for: each costs a request, and the last ones time.
pub(super) const ATTEMPTS_MAX: u32 = 8;
use super::hedge::HedgeEntry;

/// A route: a name for several models, in order of preference.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteEntry {
    /// Asked for as `route/name`.
    pub(crate) name: String,
    /// Names without a provider under which it is asked for too.
    #[serde(default)]
    pub(crate) aliases: Vec<String>,
    /// Its models, each as `provider/model` or as a table; the first one that can answers.
    #[serde(default)]
    pub(crate) targets: Vec<Candidate>,
    /// In which order they are asked: `listed` (default), `price`, `latency` or `health`.
    #[serde(default)]
    pub(crate) order: Order,
    /// What keeps Calls on one target: `session`, `user`, `key`, `task` or `metadata.NAME`.
    pub(crate) sticky: Option<Sticky>,
    /// Whether the others are asked after the first one that may be. Default true.
    pub(crate) fallback: Option<bool>,
    /// A graph of Cloudflare's AI Gateway in the place of `targets`, `order`, `sticky` and
    /// `fallback`.
    #[serde(default, deserialize_with = "cloudflare::read")]
    pub(crate) cloudflare: Option<Imported>,
    /// Attempts in all, the first included. Default 4.
    pub(crate) attempts: Option<u32>,
    /// Attempts at one target, the first included. Default 2.
    pub(crate) tries_per_target: Option<u32>,
    /// The wait before a target is asked again, if it named none; doubled each time, with jitter.
    /// Default 500 ms.
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) backoff: Option<Duration>,
    /// The longest wait that a target may ask for; if it asks for more, the next one is tried.
    /// Default 5 s.
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) wait_max: Option<Duration>,
    /// How long the first content of a stream may take while another target is left. Default: as
    /// long as the provider may be silent.
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) first_token_timeout: Option<Duration>,
    /// How long a target that keeps failing is asked last; doubled with each failed probe.
    /// Default 5 s.
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) cooldown: Option<Duration>,
    /// How long a Call waits for a local model that is busy or not loaded while another target is
    /// left. Default 1 s.
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) local_wait_max: Option<Duration>,
    /// Calls that may wait for a local model before this one while another target is left.
    /// Default 8.
    pub(crate) local_queue_max: Option<u32>,
    /// Time without content after which a stream sends its head and comments, while it can still be
    /// another target's. Default 10 s.
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) keep_alive_after: Option<Duration>,
    /// How long a Call may take in all, its retries and waits included. Default: an hour, as every
    /// Call.
    #[serde(default, deserialize_with = "some_duration")]
    pub(crate) timeout: Option<Duration>,
    /// Whether a Call is refused of which a model could not be told everything. Default: what it
    /// can't be told is dropped, and named.
    #[serde(default)]
    pub(crate) strict: bool,
    /// A second attempt beside one that shows nothing for long.
    pub(crate) hedge: Option<HedgeEntry>,
    /// What is done with a history that grows. Default: nothing.
    pub(crate) context: Option<ContextEntry>,
    /// What an answer must be like while another target is left. Default: as it comes.
    pub(crate) cascade: Option<CascadeEntry>,
    /// Which of its models are for easy tasks, and which for hard ones. Default: no difference.
    pub(crate) auto: Option<AutoEntry>,
}

impl RouteEntry {
    /// Which targets a Call gets, and in which order.
    pub(crate) fn choice(&self) -> Choice {
        if let Some(imported) = &self.cloudflare {
            return imported.choice.clone();
        }
        Choice {
            targets: match &self.auto {
                Some(auto) if self.targets.is_empty() => auto.targets(),
                Some(_) | None => self.targets.clone(),
            },
            order: self.order,
            sticky: self.sticky.clone(),
            only_first: self.fallback == Some(false),
        }
    }

    /// The setting that says which targets.
    pub(crate) const fn written(&self) -> &'static str {
        match (&self.cloudflare, &self.auto) {
            (Some(_), _) => "cloudflare",
            (None, Some(_)) if self.targets.is_empty() => "auto",
            (None, Some(_) | None) => "targets",
        }
    }

    /// Whether it says of its targets what a graph says too.
    pub(crate) fn says_more_than_a_graph(&self) -> bool {
        let own = !self.targets.is_empty() || self.order != Order::Listed;
        own || self.sticky.is_some() || self.fallback.is_some()
    }

    /// Its models as they stand, each once.
    pub(crate) fn models(&self) -> Vec<String> {
        self.choice().models().into_iter().map(str::to_owned).collect()
    }

    /// What is done where nothing is said.
    fn usual(&self) -> RoutePolicy {
        let usual = RoutePolicy::OF_ROUTE;
        let Some(imported) = &self.cloudflare else { return usual };
        let attempts_max = imported.tries.clamp(1, ATTEMPTS_MAX);
        RoutePolicy { attempts_max, same_target_max: 1, ..usual }
    }

    /// What is done otherwise when one of them fails. What the route says for all counts more than
    /// a graph of Cloudflare's.
    fn of_targets(&self) -> Option<Arc<HashMap<String, TargetPolicy>>> {
        let mut all = self.choice().of_targets();
        if self.cloudflare.is_some() {
            for own in all.values_mut() {
                own.same_target_max =
                    own.same_target_max.filter(|_| self.tries_per_target.is_none());
                own.first_token = own.first_token.filter(|_| self.first_token_timeout.is_none());
            }
        }
        (!all.is_empty()).then(|| Arc::new(all))
    }

    /// What is done when a target fails.
    pub(crate) fn policy(&self) -> RoutePolicy {
        let usual = self.usual();
        RoutePolicy {
            attempts_max: self.attempts.unwrap_or(usual.attempts_max),
            same_target_max: self.tries_per_target.unwrap_or(usual.same_target_max),
            backoff: self.backoff.unwrap_or(usual.backoff),
            growth: usual.growth,
            wait_max: self.wait_max.unwrap_or(usual.wait_max),
            first_token: self.first_token_timeout.or(usual.first_token),
            cooldown: self.cooldown.unwrap_or(usual.cooldown),
            local_wait_max: self.local_wait_max.unwrap_or(usual.local_wait_max),
            local_queue_max: self.local_queue_max.unwrap_or(usual.local_queue_max),
            hedge_after: self.hedge.map(|hedge| hedge.least()),
            hedge_percentile: self.hedge.and_then(|hedge| hedge.percentile()),
            keep_alive_after: self.keep_alive_after.unwrap_or(usual.keep_alive_after),
            context: self.context.as_ref().map(|context| Arc::new(context.policy())),
            cascade: self.cascade.as_ref().map(|cascade| Arc::new(cascade.policy())),
            auto: self.auto.as_ref().map(|auto| Arc::new(auto.policy())),
            timeout: self.timeout,
            strict: self.strict,
            of_targets: self.of_targets(),
        }
    }
}
