//! What is known of a Call when its targets are chosen: one view for all that plugs into routing.
//!
//! Everything is read from the Call when it is asked for; what costs a parse of the request is
//! parsed once, with the Call. What has to be waited for (what budgets have left) is put in before.
//! It must not know what a condition or a tier is.

use types::auto::{AutoPolicy, Tier};
use types::conversation::{Conversation, OutputShape, Part};
use types::{Call, Metadata, Money, Operation, Principal};

use crate::auto::Decision;

/// Bytes of a request that are taken for one token: English text and code have three to five.
const BYTES_PER_TOKEN: u64 = 4;
/// Tokens that one image is taken for.
const MEDIA_TOKENS: u64 = 1_024;
/// Names of tools that are looked at, at most.
const TOOLS_MAX: usize = 256;
const SECONDS_PER_HOUR: i64 = 3_600;
const SECONDS_PER_DAY: i64 = 24 * SECONDS_PER_HOUR;
/// The first day since the epoch was a Thursday.
const FIRST_WEEKDAY: i64 = 4;

/// What is known of a Call.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    call: &'a Call,
    budget_left: Option<BudgetLeft>,
    /// Which tier it is for, and how hard it seems.
    tier: Option<(Tier, u8)>,
}

/// What the budget in scope with the least left has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BudgetLeft {
    /// So much.
    pub(crate) amount: Money,
    /// The same in percent of its limit, rounded down.
    pub(crate) percent: u8,
}

impl<'a> Facts<'a> {
    /// What is known of `call`; `budget_left` is `None` where nothing limits it, or nobody asks.
    pub(crate) const fn new(call: &'a Call, budget_left: Option<BudgetLeft>) -> Self {
        Self { call, budget_left, tier: None }
    }

    /// The same, with what was decided about its tier.
    #[must_use]
    pub(crate) fn decided(self, decision: Option<&Decision>) -> Self {
        let policy = self.call.plan.policy.auto.as_deref();
        let asked = |(policy, decision): (&AutoPolicy, &Decision)| {
            (decision.asked(policy), decision.score_or_rule())
        };
        Self { tier: policy.zip(decision).map(asked), ..self }
    }

    /// The tier that is asked, by name; empty where none is.
    pub(crate) fn tier(&self) -> &'static str {
        self.tier.map_or("", |(tier, _)| tier.name())
    }

    /// How hard it seems, 0 to 100.
    pub(crate) fn score(&self) -> u64 {
        self.tier.map_or(0, |(_, score)| u64::from(score))
    }

    /// The request class.
    pub(crate) fn class(&self) -> &str {
        &self.call.class
    }

    /// Which door it came in by.
    pub(crate) fn door(&self) -> &'static str {
        self.call.door.name()
    }

    /// What its client says of it.
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.call.metadata
    }

    /// Who asks.
    pub(crate) fn principal(&self) -> &Principal {
        &self.call.principal
    }

    /// Whether it belongs to a session.
    pub(crate) fn in_session(&self) -> bool {
        self.call.session.is_some()
    }

    /// Whether it is to be streamed.
    pub(crate) fn stream(&self) -> bool {
        self.call.model().is_some_and(|model| model.head.stream)
    }

    /// The client's output cap in tokens; zero if it set none.
    pub(crate) fn output_cap(&self) -> u64 {
        self.call.model().and_then(|model| model.head.output_cap).unwrap_or(0)
    }

    /// Length of the request in bytes.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.call.model().map_or(0, |model| model.head.body_bytes)
    }

    /// Images, sounds and documents in it.
    pub(crate) fn media(&self) -> u64 {
        self.call.model().map_or(0, |model| u64::from(model.head.media))
    }

    /// What is asked of the model, by name; empty of a tool.
    pub(crate) fn operation(&self) -> &'static str {
        match self.call.model().map(|model| model.operation) {
            Some(Operation::Chat) => "chat",
            Some(Operation::CountTokens) => "count_tokens",
            Some(Operation::Embed) => "embed",
            None => "",
        }
    }

    /// Which kinds of media are in it, each once. Parses the request if it has any.
    pub(crate) fn media_kinds(&self) -> Vec<String> {
        if self.media() == 0 {
            return Vec::new();
        }
        let Some(Ok(asked)) = self.call.model().map(types::ModelCall::neutral) else {
            return Vec::new();
        };
        let mut kinds: Vec<String> = asked
            .parts()
            .filter_map(|part| if let Part::Media { kind, .. } = part { Some(kind) } else { None })
            .cloned()
            .collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }

    /// About how many tokens the request has: an estimate, for choosing and never for money.
    pub(crate) fn input_tokens(&self) -> u64 {
        let media = self.media().saturating_mul(MEDIA_TOKENS);
        self.body_bytes().div_ceil(BYTES_PER_TOKEN).saturating_add(media)
    }

    /// Whether it declares tools.
    pub(crate) fn has_tools(&self) -> bool {
        let Some(model) = self.call.model() else { return false };
        match model.raw {
            Some(_) => model.head.tools,
            None => self.with(|asked| !asked.tools.is_empty()),
        }
    }

    /// Names of the tools that it declares. Parses the request.
    pub(crate) fn tool_names(&self) -> Vec<String> {
        let Some(Ok(asked)) = self.call.model().map(types::ModelCall::neutral) else {
            return Vec::new();
        };
        asked.tools.iter().take(TOOLS_MAX).map(|tool| tool.name.clone()).collect()
    }

    /// Whether the answer has to follow a schema. Parses the request.
    pub(crate) fn wants_schema(&self) -> bool {
        self.with(|asked| matches!(asked.output_shape, OutputShape::JsonSchema { .. }))
    }

    /// How hard the model is to think, by name; empty if the client does not say. Parses the
    /// request.
    pub(crate) fn effort(&self) -> &'static str {
        let Some(Ok(asked)) = self.call.model().map(types::ModelCall::neutral) else { return "" };
        asked.reasoning.effort.map_or("", types::conversation::Effort::name)
    }

    /// The hour of the day in UTC, 0 to 23.
    pub(crate) fn hour(&self) -> i64 {
        self.call.started_at.seconds().rem_euclid(SECONDS_PER_DAY) / SECONDS_PER_HOUR
    }

    /// The day of the week in UTC: 0 is Sunday.
    pub(crate) fn weekday(&self) -> i64 {
        let days = self.call.started_at.seconds().div_euclid(SECONDS_PER_DAY);
        (days + FIRST_WEEKDAY).rem_euclid(7)
    }

    /// What the budget in scope with the least left has left; `None` where nothing limits it.
    pub(crate) const fn budget_left(&self) -> Option<BudgetLeft> {
        self.budget_left
    }

    fn with(&self, holds: impl Fn(&Conversation) -> bool) -> bool {
        let asked = self.call.model().map(types::ModelCall::neutral);
        asked.is_some_and(|asked| asked.is_ok_and(|asked| holds(&asked)))
    }
}
