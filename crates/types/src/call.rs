//! A Call: everything an agent does, as one value that goes through one pipeline.
//!
//! A door builds an [`Incoming`]; `identify` turns it into a [`Call`], which from then on is read
//! only. The plan of a Call is data: which targets its model name stands for, and what they cost.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::auto::{AutoPolicy, Tier};
use crate::cascade::CascadePolicy;
use crate::clock::{Monotonic, Timestamp};
use crate::context::ContextPolicy;
use crate::conversation::Conversation;
use crate::error::Failure;
use crate::format::Format;
use crate::ids::{CallId, SessionId, StepId};
use crate::metadata::Metadata;
use crate::money::Money;
use crate::notes::Notes;
use crate::price::{CacheWrites, Extras, Price};
use crate::principal::Principal;
use crate::secret::Secret;
use crate::trace::TraceParent;

/// Which way a Call came in. Errors are rendered by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Door {
    /// `/v1/chat/completions`.
    OpenaiChat,
    /// `/v1/responses`.
    OpenaiResponses,
    /// `/v1/messages`.
    AnthropicMessages,
    /// `/v1/embeddings`.
    OpenaiEmbeddings,
    /// `/v1beta/models/{model}:generateContent` and its like.
    Gemini,
    /// Cloudflare's `ai/run`.
    CloudflareRun,
    /// A session's own loop.
    Session,
}

impl Door {
    /// The name that is stored and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenaiChat => "openai_chat",
            Self::OpenaiResponses => "openai_responses",
            Self::AnthropicMessages => "anthropic_messages",
            Self::OpenaiEmbeddings => "openai_embeddings",
            Self::Gemini => "gemini",
            Self::CloudflareRun => "cloudflare_run",
            Self::Session => "session",
        }
    }
}

/// Who asks, before it is known who that is.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Nothing was sent.
    Missing,
    /// The secret of an API key.
    Key(Secret),
    /// A principal that was identified before: a session's own steps.
    Known(Arc<Principal>),
}

/// Holdfast's own request headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommonHeaders {
    /// `holdfast-session`: a name that groups stateless Calls, at most [`NAME_CHARS_MAX`]
    /// characters.
    pub session_name: Option<String>,
    /// `holdfast-task`: what is paid and timed together.
    pub task: Option<String>,
    /// `holdfast-class`: the request class.
    pub class: Option<String>,
    /// `holdfast-budget`: a cap on this Call's cost.
    pub budget: Option<Money>,
    /// `holdfast-metadata`: what the caller says of the Call.
    pub metadata: Metadata,
    /// `traceparent`: the trace that the Call belongs to.
    pub trace: Option<TraceParent>,
    /// What the caller asks about attempts, in headers of its own API.
    pub attempts: Option<AttemptsAsk>,
    /// `holdfast-tier`: the tier of targets that the caller wants, where the route has tiers.
    pub tier: Option<Tier>,
    /// The gateway that it came in by, where its door has gateways.
    pub gateway: Option<String>,
    /// What the caller asks about the Call's way, if anything.
    pub asks: Option<Box<RouteAsk>>,
}

/// Characters of a gateway's name at most, as AI Gateway has it.
pub const GATEWAY_CHARS_MAX: usize = 64;

/// Whether a text can be a gateway's name: lower-case letters, digits, `_` and `-`.
pub fn is_gateway(name: &str) -> bool {
    let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    (1..=GATEWAY_CHARS_MAX).contains(&name.len()) && name.bytes().all(fits)
}

/// What a caller asks about the way that its Call takes, beyond its model's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteAsk {
    /// `holdfast-deadline`: how long the Call may take in all, from when it came in. Not kept: what
    /// goes on after a restart has a client that waited no longer.
    #[serde(skip)]
    pub time: Option<Duration>,
    /// `holdfast-strict`: whether what a target can't be told is refused instead of dropped.
    pub strict: bool,
    /// `holdfast-allowed-models`, `holdfast-allowed-providers`: which targets may be asked.
    pub allowed: Option<Allowed>,
    /// `holdfast-no-affinity`: whether it need not stay where its session was.
    pub no_affinity: bool,
    /// The turn that it is of, as its client counts them; at most [`NAME_CHARS_MAX`] characters.
    pub turn: Option<String>,
}

/// Which targets a caller allows. What is `None` allows all; a target must fit both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// Models as `provider/model`; a `*` stands for any characters but `/`.
    pub models: Option<Vec<String>>,
    /// Providers by name.
    pub providers: Option<Vec<String>>,
}

impl Allowed {
    /// Names in one list at most.
    pub const NAMES_MAX: usize = 64;

    /// Whether a target may be asked.
    pub fn allows(&self, target: &Target) -> bool {
        let is_model = |pattern: &String| fits(pattern, &target.name);
        let model = self.models.as_ref().is_none_or(|models| models.iter().any(is_model));
        let is_provider = |name: &String| **name == *target.provider;
        model && self.providers.as_ref().is_none_or(|names| names.iter().any(is_provider))
    }
}

/// Whether a name fits a pattern, segment by segment: a `*` matches no `/`. Takes time in
/// proportion to the product of their lengths at most, whatever a client sends.
fn fits(pattern: &str, name: &str) -> bool {
    let (mut wanted, mut given) = (pattern.split('/'), name.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(wanted), Some(given)) if segment_fits(wanted, given) => {}
            (Some(_) | None, _) => return false,
        }
    }
}

fn segment_fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let Some((middle, last)) = rest.rsplit_once('*') else { return left.ends_with(rest) };
    for part in middle.split('*') {
        // The leftmost place leaves most for those behind it.
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(last)
}

/// What a caller asks about attempts, where its API has words for it. What it does not say is as
/// the plan of the model's name has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttemptsAsk {
    /// Attempts at one target, the first included; at least 1.
    pub same_target_max: Option<u32>,
    /// The wait before a target is asked again, at most.
    pub backoff: Option<Duration>,
    /// How that wait grows.
    pub growth: Option<Growth>,
    /// Whether the head of an answer is to be held until its first content, because the caller has
    /// something else to ask until then.
    pub hold: bool,
}

impl AttemptsAsk {
    /// The policy of a plan, as it is for this caller.
    #[must_use]
    pub fn applied_to(&self, policy: RoutePolicy) -> RoutePolicy {
        let same_target_max = self.same_target_max.unwrap_or(policy.same_target_max).max(1);
        RoutePolicy {
            attempts_max: policy.attempts_max.max(same_target_max).max(1 + u32::from(self.hold)),
            same_target_max,
            backoff: self.backoff.unwrap_or(policy.backoff),
            growth: self.growth.unwrap_or(policy.growth),
            of_targets: policy.of_targets.as_ref().map(|all| self.over(all)),
            ..policy
        }
    }

    /// What is done at single targets, as it is for this caller.
    fn over(&self, all: &Arc<HashMap<String, TargetPolicy>>) -> Arc<HashMap<String, TargetPolicy>> {
        if self.same_target_max.is_none() {
            return Arc::clone(all);
        }
        let own = |own: &TargetPolicy| TargetPolicy { same_target_max: None, ..*own };
        Arc::new(all.iter().map(|(name, of)| (name.clone(), own(of))).collect())
    }
}

/// Characters of a session's or a task's name at most.
pub const NAME_CHARS_MAX: usize = 128;

/// What a door hands to the pipeline.
#[derive(Debug)]
pub struct Incoming {
    /// Who asks.
    pub credential: Credential,
    /// Which way it came in.
    pub door: Door,
    /// Holdfast's own headers.
    pub headers: CommonHeaders,
    /// The session and step that it is part of, for a session's own Calls.
    pub step: Option<StepRef>,
    /// The Call that spawned it.
    pub parent: Option<CallId>,
    /// The id to use, where it was journaled before; else a new one is made.
    pub id: Option<CallId>,
    /// What is asked.
    pub kind: CallKind,
}

/// The step of a session that a Call is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRef {
    /// The session.
    pub session: SessionId,
    /// The session from which all its forks descend; budgets on a session count this.
    pub root: SessionId,
    /// The step.
    pub step: StepId,
    /// Whether its turn has begun: what it has done is durable, so that it waits rather than fails.
    pub begun: bool,
}

/// An identified Call.
#[derive(Debug)]
pub struct Call {
    /// Its id.
    pub id: CallId,
    /// The Call that spawned it.
    pub parent: Option<CallId>,
    /// Who it acts for.
    pub principal: Arc<Principal>,
    /// The session that it belongs to, if any.
    pub session: Option<SessionId>,
    /// The root session that budgets on a session count; equals `session` unless it was forked.
    pub session_root: Option<SessionId>,
    /// The step of the session that it is, if any.
    pub step: Option<StepId>,
    /// What is paid and timed together with it: the client's name for it, else the root Call's id.
    pub task: Arc<str>,
    /// The request class.
    pub class: Arc<str>,
    /// Which way it came in.
    pub door: Door,
    /// The gateway that it came in by, if its door has gateways.
    pub gateway: Option<Arc<str>>,
    /// What its client says of it.
    pub metadata: Metadata,
    /// The trace that it belongs to, if its client began one.
    pub trace: Option<TraceParent>,
    /// Why its plan is as it is; the notes of each of its attempts begin with these.
    pub notes: Notes,
    /// A cap on its cost that the caller set.
    pub budget: Option<Money>,
    /// When it must have ended, on the monotonic clock.
    pub deadline: Option<Monotonic>,
    /// How long its caller or its route gave it until then; `None` = the deadline is the one that
    /// every Call has.
    pub time: Option<Duration>,
    /// What its caller asks about its way, if anything.
    pub asks: Option<Box<RouteAsk>>,
    /// What keeps it on the target that answers it, once one does: what later Calls of the same
    /// session, or whatever its route goes by, look for.
    pub pins: Vec<u64>,
    /// When it came in.
    pub started_at: Timestamp,
    /// When it came in, on the monotonic clock.
    pub started: Monotonic,
    /// What its model or tool name stands for.
    pub plan: Arc<Plan>,
    /// What is asked.
    pub kind: CallKind,
}

impl Call {
    /// The model call that it is, if it is one.
    pub fn model(&self) -> Option<&ModelCall> {
        match &self.kind {
            CallKind::Model(model) => Some(model),
            CallKind::Tool(_) => None,
        }
    }

    /// Whether what a target can't be told is refused instead of dropped.
    pub fn is_strict(&self) -> bool {
        self.plan.policy.strict || self.asks.as_ref().is_some_and(|asks| asks.strict)
    }

    /// Whether it need not stay where its session was.
    pub fn has_no_affinity(&self) -> bool {
        self.asks.as_ref().is_some_and(|asks| asks.no_affinity)
    }
}

/// What is asked. Data and egress Calls join with the parts that make them.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a Call is shared, not moved, and mostly a model's")]
pub enum CallKind {
    /// A model request.
    Model(ModelCall),
    /// A tool invocation.
    Tool(ToolInvocation),
}

/// What a model is asked to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Continue a conversation.
    #[default]
    Chat,
    /// Count its tokens; nothing is answered and nothing charged.
    CountTokens,
    /// Turn texts into vectors.
    Embed,
}

/// A model request in its client's wire format, its neutral form, or both.
#[derive(Debug)]
pub struct ModelCall {
    /// What is asked of the model.
    pub operation: Operation,
    /// The client's wire format.
    pub format: &'static dyn Format,
    /// What every stage needs, read in one pass.
    pub head: ModelHead,
    /// The client's bytes; `None` where a session made the request.
    pub raw: Option<Bytes>,
    /// What of the client's HTTP request belongs to its wire format.
    pub wire: WireContext,
    neutral: OnceLock<Result<Arc<Conversation>, Failure>>,
}

impl ModelCall {
    /// A request as a client sent it.
    pub const fn from_raw(format: &'static dyn Format, head: ModelHead, raw: Bytes) -> Self {
        Self {
            operation: Operation::Chat,
            format,
            head,
            raw: Some(raw),
            wire: WireContext { headers: Vec::new(), query: None },
            neutral: OnceLock::new(),
        }
    }

    /// Whether it is only to be counted: no model runs, and nothing is billed.
    pub fn only_counts(&self) -> bool {
        self.operation == Operation::CountTokens
    }

    /// The same request, asking something else of the model.
    #[must_use]
    pub fn for_operation(self, operation: Operation) -> Self {
        Self { operation, ..self }
    }

    /// The same request, with what stood around its body.
    #[must_use]
    pub fn with_wire(self, wire: WireContext) -> Self {
        Self { wire, ..self }
    }

    /// A request that was made here, in neutral form.
    pub fn from_neutral(
        format: &'static dyn Format,
        head: ModelHead,
        neutral: Arc<Conversation>,
    ) -> Self {
        let cell = OnceLock::from(Ok(neutral));
        let wire = WireContext::default();
        Self { operation: Operation::Chat, format, head, raw: None, wire, neutral: cell }
    }

    /// The neutral form, parsed once and only when a stage asks for it.
    ///
    /// # Errors
    /// The format's own 400 if the body is not what the format says.
    pub fn neutral(&self) -> Result<Arc<Conversation>, Failure> {
        let parse = || match &self.raw {
            Some(raw) => self.format.parse_request(raw).map(Arc::new),
            None => Err(Failure::new(crate::ErrorCode::Internal, "a request without a body")),
        };
        self.neutral.get_or_init(parse).clone()
    }
}

/// What of an HTTP request belongs to its wire format and not to its body. It is told to a target
/// of the same format, and to no other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WireContext {
    /// Headers, of those that the format [names](Format::wire_headers).
    pub headers: Vec<(&'static str, String)>,
    /// The query, such as `beta=true`.
    pub query: Option<&'static str>,
}

/// What every stage needs of a model request, read in one pass without building a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelHead {
    /// The model that the client asks for.
    pub model: String,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// The client's output cap in tokens.
    pub output_cap: Option<u64>,
    /// How many answers are asked for (OpenAI's `n`), at least 1.
    pub choices: u64,
    /// Whether the client asked for the usage in the stream.
    pub include_usage: bool,
    /// Length of the request in bytes: an upper bound on its text's tokens.
    pub body_bytes: u64,
    /// Images, sounds and documents in it.
    pub media: u32,
    /// Whether it declares tools, which a model's chat template introduces in its own words.
    pub tools: bool,
    /// A field whose cost nobody can say beforehand (a service tier, a search, another model), if
    /// the request has one: no bound can be given for it.
    pub surcharge: Option<&'static str>,
    /// What it asks to be kept in the provider's prompt cache.
    pub cache_writes: CacheWrites,
    /// What it asks for that only some prices say.
    pub extras: Extras,
    /// Where the fields that the pipeline may edit stand in the raw body, for byte-exact edits.
    pub spans: HeadSpans,
}

/// Byte ranges of values in a raw body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadSpans {
    /// The value of `model`.
    pub model: Option<Range<usize>>,
    /// The value of `stream_options`.
    pub stream_options: Option<Range<usize>>,
    /// The value of the output cap's field, whichever name it has.
    pub output_cap: Option<Range<usize>>,
    /// Where a new field can be inserted: directly behind the object's opening brace.
    pub insert_at: usize,
}

/// A tool invocation.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolInvocation {
    /// The tool server.
    pub server: String,
    /// The tool.
    pub tool: String,
    /// Its arguments.
    pub arguments: Value,
    /// The same on every try of the same step.
    pub idempotency_key: String,
}

/// What a name stands for: data only, no decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The name that was asked for.
    pub name: Arc<str>,
    /// The candidates in order of preference.
    pub targets: Vec<Arc<Target>>,
    /// What is done when one of them fails.
    pub policy: RoutePolicy,
}

/// What a route does when a target fails. The default is that of a plain model's name: one attempt,
/// whose failure is the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePolicy {
    /// Attempts in all, the first included; at least 1.
    pub attempts_max: u32,
    /// Attempts at one target, the first included; at least 1.
    pub same_target_max: u32,
    /// The wait before a target is asked again, if it named none; it grows, and has jitter.
    pub backoff: Duration,
    /// How that wait grows.
    pub growth: Growth,
    /// The longest wait for a target that named one; beyond it the next target is asked.
    pub wait_max: Duration,
    /// How long the first content of a streamed answer may take while another target is left;
    /// `None` = as long as the provider's own limits.
    pub first_token: Option<Duration>,
    /// How long a target that keeps failing is asked last; doubled with each failed probe.
    pub cooldown: Duration,
    /// How long a Call waits for a local model that is busy or not loaded while another target is
    /// left.
    pub local_wait_max: Duration,
    /// Calls that may wait for a local model before this one while another target is left.
    pub local_queue_max: u32,
    /// Time without content after which a second target is asked beside the first; `None` = never.
    pub hedge_after: Option<Duration>,
    /// In hundredths: that time is rather the one that so many of the first target's answers were
    /// within lately, but never less than `hedge_after`.
    pub hedge_percentile: Option<u8>,
    /// Time without content after which a stream sends its head and signs of life, while it can
    /// still be another target's.
    pub keep_alive_after: Duration,
    /// What is done with a history that grows.
    pub context: Option<Arc<ContextPolicy>>,
    /// What an answer must be like while another target is left.
    pub cascade: Option<Arc<CascadePolicy>>,
    /// Which of its targets are for which tasks.
    pub auto: Option<Arc<AutoPolicy>>,
    /// How long a Call may take in all; `None` = as every Call.
    pub timeout: Option<Duration>,
    /// Whether what a target can't be told is refused instead of dropped.
    pub strict: bool,
    /// What is done otherwise when one of these targets fails, by name.
    pub of_targets: Option<Arc<HashMap<String, TargetPolicy>>>,
}

/// What is done otherwise when one target of a route fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetPolicy {
    /// Attempts there, the first included; at least 1. `None` = as the route has it.
    pub same_target_max: Option<u32>,
    /// How long the first content of a streamed answer may take while another target is left.
    /// `None` = as the route has it.
    pub first_token: Option<Duration>,
}

/// How the wait before a target is asked again grows from try to try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Growth {
    /// It stays.
    Constant,
    /// By as much each time.
    Linear,
    /// It doubles.
    #[default]
    Exponential,
}

impl RoutePolicy {
    /// What a route does that says nothing else.
    pub const OF_ROUTE: Self = Self {
        attempts_max: 4,
        same_target_max: 2,
        backoff: Duration::from_millis(500),
        growth: Growth::Exponential,
        wait_max: Duration::from_secs(5),
        first_token: None,
        cooldown: Duration::from_secs(5),
        local_wait_max: Duration::from_secs(1),
        local_queue_max: 8,
        hedge_after: None,
        hedge_percentile: None,
        keep_alive_after: Duration::from_secs(10),
        context: None,
        cascade: None,
        auto: None,
        timeout: None,
        strict: false,
        of_targets: None,
    };

    /// Attempts at `target`, the first included.
    pub fn tries_at(&self, target: &Target) -> u32 {
        self.of(target).and_then(|own| own.same_target_max).unwrap_or(self.same_target_max)
    }

    /// How long the first content of a stream from `target` may take while another is left.
    pub fn first_token_at(&self, target: &Target) -> Option<Duration> {
        self.of(target).and_then(|own| own.first_token).or(self.first_token)
    }

    fn of(&self, target: &Target) -> Option<&TargetPolicy> {
        self.of_targets.as_ref()?.get(&*target.name)
    }
}

impl Default for RoutePolicy {
    fn default() -> Self {
        Self { attempts_max: 1, same_target_max: 1, ..Self::OF_ROUTE }
    }
}

/// One (provider, endpoint, credential, model) that an attempt can be sent to.
#[derive(Clone, Debug)]
pub struct Target {
    /// The configured provider; `local` is the engine, `mcp` the tool servers.
    pub provider: Arc<str>,
    /// The name under which clients see it: `provider/model`.
    pub name: Arc<str>,
    /// The model's name at the provider.
    pub upstream_model: Arc<str>,
    /// The wire format that the provider speaks; `None` = neutral (engine, tools).
    pub format: Option<&'static dyn Format>,
    /// What it costs now; `None` = unpriced, which a hard budget refuses.
    pub price: Option<Arc<Price>>,
    /// The most tokens that it can answer with, if known.
    pub output_tokens_max: Option<u64>,
    /// Its context window in tokens, if known.
    pub context_tokens: Option<u64>,
    /// What it is known not to take.
    pub lacks: Lacks,
    /// How long an answer is read on for its usage once its client has gone; `None` = it is given
    /// up, and its usage stays unknown.
    pub drain: Option<Duration>,
}

/// What a model is known not to take; what nobody knows is taken to be possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lacks {
    /// Images, sounds and documents.
    pub media: bool,
    /// Answers by a schema.
    pub schema: bool,
    /// Marks for a prompt cache in a request of another format: there they are left out.
    pub cache_marks: bool,
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.provider == other.provider && self.price == other.price
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_can_ask_for_more_tries_and_loses_none_of_a_route() {
        let plain = RoutePolicy::default();
        assert_eq!(AttemptsAsk::default().applied_to(plain.clone()), plain);
        let thrice = AttemptsAsk { same_target_max: Some(3), ..AttemptsAsk::default() };
        let asked = thrice.applied_to(plain);
        assert_eq!((asked.attempts_max, asked.same_target_max), (3, 3));
        let once = AttemptsAsk { same_target_max: Some(1), ..AttemptsAsk::default() };
        let route = once.applied_to(RoutePolicy::OF_ROUTE);
        assert_eq!((route.attempts_max, route.same_target_max), (4, 1));
    }

    #[test]
    fn what_a_caller_allows_is_found_by_its_patterns() {
        for (pattern, name, is) in [
            ("a/m", "a/m", true),
            ("a/m", "a/m2", false),
            ("a/*", "a/m", true),
            ("a/*", "a/m/n", false),
            ("*", "a/m", false),
            ("*/m", "a/m", true),
            ("a/gpt-*-mini", "a/gpt-5-mini", true),
            ("a/gpt-*-mini", "a/gpt-mini", false),
            ("a/*5*", "a/gpt-5", true),
            ("a/*ab*ab", "a/ab", false),
            ("a/*ab*ab", "a/abab", true),
            ("a/b*b", "a/b", false),
            ("", "", true),
        ] {
            assert_eq!(fits(pattern, name), is, "{pattern} {name}");
        }
    }

    #[test]
    fn a_gateway_has_a_name_as_cloudflare_has_it() {
        assert!(is_gateway("default") && is_gateway("team-7_eu"));
        let long = "a".repeat(GATEWAY_CHARS_MAX + 1);
        for wrong in ["", "Team", "a b", "a/b", "é", &long] {
            assert!(!is_gateway(wrong), "{wrong}");
        }
    }

    #[test]
    fn an_answer_whose_head_is_held_is_tried_no_more_often() {
        let hold = AttemptsAsk { hold: true, ..AttemptsAsk::default() };
        let held = hold.applied_to(RoutePolicy::default());
        // Two in all, but one at each target: a name with one target is asked once.
        assert_eq!((held.attempts_max, held.same_target_max), (2, 1));
    }
}
