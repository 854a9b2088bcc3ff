//! The first stage: who asks, and what the name that they ask for stands for.
//!
//! It turns an [`Incoming`] into a [`Call`], with the budgets that it falls under, from one
//! snapshot of the directory: a Call never sees half of a change. Nothing is decided here beyond
//! "who is this" and "what does that name mean"; whether they may is for `admit`. It must not know
//! money amounts, targets' health or the store.

pub mod directory;
pub(crate) mod prices;
mod snapshot;
pub(crate) mod values;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use data_encoding::{Encoding, Specification};
use sha2::{Digest, Sha256};
use storage::Budget;
use types::auto::{AutoPolicy, Tier};
use types::call::{
    AttemptsAsk, CallKind, Credential, Door, NAME_CHARS_MAX, Plan, RouteAsk, RoutePolicy, Target,
    ToolInvocation,
};
use types::clock::Monotonic;
use types::ids::{CallId, SessionId};
use types::{Call, Clock, CommonHeaders, ErrorCode, Failure, Incoming, Money, Notes, Price};

use crate::route::choice::SharedChoice;
use directory::{Directory, Upstreams};
use snapshot::Scoped;
pub(crate) use snapshot::{Known, List, OfTargets, Snapshot, Unseen};

/// The provider under which whoever runs tools is registered.
pub const TOOL_PROVIDER: &str = "mcp";
/// Names the price of what a tool costs here: nothing.
const TOOL_PRICE: &str = "tools@free";
/// The request class of traffic that names none.
const CLASS_INTERACTIVE: &str = "interactive";
/// The request class of a session's own steps.
const CLASS_AGENT: &str = "agent";
/// How long a Call may take in the whole. What trickles for longer holds a connection, an upstream
/// and a reservation without end; the longest answers of models that think are minutes.
pub const CALL_TIME_MAX: Duration = Duration::from_secs(60 * 60);
/// The note that names the client's turn.
const NOTE_TURN: &str = "turn";
/// Bytes of the hash that a named session's id is made of, as many as a UUID has.
const SESSION_HASH_BYTES: usize = 16;

/// A Call whose sender and target are known, with the budgets in scope in order of id.
#[derive(Debug)]
pub(crate) struct Identified {
    pub(crate) call: Arc<Call>,
    pub(crate) budgets: Arc<[Arc<Budget>]>,
    /// What attempts at its targets fall under beside; `None` = nothing.
    pub(crate) of_targets: Option<Arc<OfTargets>>,
    /// Values that are to have a budget of their own, and have none yet ([`values`]).
    pub(crate) unseen: Vec<Unseen>,
    /// What its targets are still to be chosen by.
    pub(crate) choice: Option<SharedChoice>,
    /// Who did Calls when this one came.
    pub(crate) upstreams: Arc<Upstreams>,
}

/// Turns what a door was sent into a Call.
pub(crate) fn identify(
    directory: &Directory,
    clock: &dyn Clock,
    id: CallId,
    incoming: Incoming,
) -> Result<Identified, Failure> {
    let (started, started_at) = (clock.monotonic(), clock.now());
    let snapshot = directory.snapshot();
    let known = authenticate(&snapshot, &incoming.credential)?;
    check_names(&incoming.headers)?;
    let (plan, choice) = plan(&snapshot, &incoming.kind, started_at)?;
    let plan = incoming.headers.attempts.map_or_else(|| Arc::clone(&plan), |ask| asked(&plan, ask));
    let plan = incoming.headers.tier.map_or_else(|| Arc::clone(&plan), |tier| wanted(&plan, tier));
    let principal = Arc::clone(&known.principal);
    let headers = incoming.headers;
    let (session, session_root, step) = match (incoming.step, &headers.session_name) {
        (Some(step), _) => (Some(step.session), Some(step.root), Some(step.step)),
        (None, Some(name)) => {
            let session = named_session(&principal.account, &principal.user, name);
            (Some(session.clone()), Some(session), None)
        }
        (None, None) => (None, None, None),
    };
    let task = match headers.task {
        Some(task) => Arc::from(task),
        None => Arc::from(incoming.parent.as_ref().unwrap_or(&id).as_str()),
    };
    let class = headers.class.map_or_else(|| default_class(incoming.door), Arc::from);
    let (time, deadline) = time_of(headers.asks.as_deref(), &plan, started);
    let call = Call {
        id,
        parent: incoming.parent,
        principal,
        session,
        session_root,
        step,
        task,
        class,
        door: incoming.door,
        gateway: headers.gateway.map(Arc::from),
        metadata: headers.metadata,
        trace: headers.trace,
        notes: notes_of(headers.asks.as_deref()),
        budget: headers.budget,
        deadline: Some(deadline),
        time,
        asks: headers.asks,
        pins: Vec::new(),
        started_at,
        started,
        plan,
        kind: incoming.kind,
    };
    Ok(Identified::new(&snapshot, &known, call, choice))
}

impl Identified {
    fn new(snapshot: &Snapshot, known: &Known, call: Call, choice: Option<SharedChoice>) -> Self {
        let Scoped { budgets, of_targets, unseen } = snapshot.scoped(known, &call);
        let upstreams = Arc::clone(&snapshot.upstreams);
        Self { call: Arc::new(call), budgets, of_targets, unseen, choice, upstreams }
    }
}

/// A Call that another one spawns, before it is known what its model's name stands for.
pub(crate) struct Spawn<'a> {
    pub(crate) parent: &'a Call,
    pub(crate) id: CallId,
    pub(crate) kind: CallKind,
    /// What it may cost at most.
    pub(crate) budget: Option<Money>,
    /// How long it may take; the deadline of a parent that waits for it holds too.
    pub(crate) time_max: Duration,
    /// The request class that it has of its own, and the note that says what it is for.
    pub(crate) purpose: Option<Purpose>,
}

/// What a Call is for that its parent does not wait for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purpose {
    /// Its request class: it is none of its parent's traffic.
    pub(crate) class: &'static str,
    /// Its note in the ledger: name and text.
    pub(crate) note: (&'static str, &'static str),
}

/// Makes a Call of what another one asks on its own account: for the same principal, session and
/// task, under the same budgets.
pub(crate) fn spawned(
    directory: &Directory,
    clock: &dyn Clock,
    spawn: Spawn<'_>,
) -> Result<Identified, Failure> {
    let (started, started_at) = (clock.monotonic(), clock.now());
    let Spawn { parent, id, kind, budget, time_max, purpose } = spawn;
    let snapshot = directory.snapshot();
    let credential = Credential::Known(Arc::clone(&parent.principal));
    let known = authenticate(&snapshot, &credential)?;
    let (plan, choice) = plan(&snapshot, &kind, started_at)?;
    let latest = started.saturating_add(time_max);
    let mut notes = Notes::default();
    if let Some(Purpose { note: (name, text), .. }) = purpose {
        notes.set(name, text);
    }
    let call = Call {
        id,
        parent: Some(parent.id.clone()),
        principal: Arc::clone(&known.principal),
        // What nobody waits for does not stand in the way of the session's own steps.
        session: parent.session.clone().filter(|_| purpose.is_none()),
        session_root: parent.session_root.clone(),
        step: None,
        task: Arc::clone(&parent.task),
        class: purpose.map_or_else(|| Arc::clone(&parent.class), |it| Arc::from(it.class)),
        door: parent.door,
        gateway: parent.gateway.clone(),
        metadata: parent.metadata.clone(),
        trace: parent.trace,
        notes,
        budget,
        // What its parent does not wait for goes on after it.
        deadline: parent
            .deadline
            .filter(|_| purpose.is_none())
            .map_or(Some(latest), |deadline| Some(deadline.min(latest))),
        // Who waits for it says what its lateness means.
        time: None,
        asks: None,
        pins: Vec::new(),
        started_at,
        started,
        plan,
        kind,
    };
    Ok(Identified::new(&snapshot, &known, call, choice))
}

/// How long a Call may take in all, if its caller or its route says so, and when it must have
/// ended.
fn time_of(
    asks: Option<&RouteAsk>,
    plan: &Plan,
    started: Monotonic,
) -> (Option<Duration>, Monotonic) {
    let said = [asks.and_then(|asks| asks.time), plan.policy.timeout].into_iter().flatten().min();
    let time = said.filter(|time| *time < CALL_TIME_MAX);
    (time, started.saturating_add(time.unwrap_or(CALL_TIME_MAX)))
}

/// What is noted of a Call from its beginning on.
fn notes_of(asks: Option<&RouteAsk>) -> Notes {
    let mut notes = Notes::default();
    if let Some(turn) = asks.and_then(|asks| asks.turn.as_deref()) {
        notes.set(NOTE_TURN, turn);
    }
    notes
}

/// A plan with what its caller asks about attempts.
fn asked(plan: &Plan, ask: AttemptsAsk) -> Arc<Plan> {
    Arc::new(Plan { policy: ask.applied_to(plan.policy.clone()), ..plan.clone() })
}

/// A plan with the tier that its caller wants, where it may say so.
fn wanted(plan: &Arc<Plan>, tier: Tier) -> Arc<Plan> {
    let Some(auto) = plan.policy.auto.as_ref().filter(|auto| auto.by_header) else {
        return Arc::clone(plan);
    };
    let auto = Arc::new(AutoPolicy { asked: Some(tier), ..AutoPolicy::clone(auto) });
    let policy = RoutePolicy { auto: Some(auto), ..plan.policy.clone() };
    Arc::new(Plan { policy, ..Plan::clone(plan) })
}

/// Who a credential stands for.
pub(crate) fn authenticate(
    snapshot: &Snapshot,
    credential: &Credential,
) -> Result<Arc<Known>, Failure> {
    let known = match credential {
        Credential::Missing => {
            return Err(unauthenticated("no API key was sent, or two that differ"));
        }
        Credential::Key(secret) => snapshot.by_secret(&secret_hash(secret.expose())),
        Credential::Known(principal) => snapshot.by_key(&principal.key),
    };
    // LiteLLM tells a wrong key from a bad request by OpenAI's own first words.
    let wrong = "Incorrect API key provided: it is not known here, or was deleted";
    known.ok_or_else(|| unauthenticated(wrong))
}

fn unauthenticated(what: &str) -> Failure {
    let message = format!("{what}: send `Authorization: Bearer <key>` with a key of this server");
    Failure::new(ErrorCode::Unauthenticated, message)
}

/// SHA-256 of a key's secret, by which keys are found: a look-up by hash leaks no prefix by its
/// timing.
pub(crate) fn secret_hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// The session of a client's own name for it (`holdfast-session: NAME`): the same for the same
/// account, user and name.
pub fn named_session(account: &str, user: &str, name: &str) -> SessionId {
    derived_id(SessionId::PREFIX, &[account, user, name], SessionId::parse)
}

/// An id that is the same for the same texts.
pub(crate) fn derived_id<T>(prefix: &str, parts: &[&str], parse: fn(&str) -> Option<T>) -> T {
    static CROCKFORD: OnceLock<Option<Encoding>> = OnceLock::new();
    let mut hash = Sha256::new();
    for part in parts {
        // A length before each part, so that no two lists run together into the same bytes.
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let digest = &digest[..SESSION_HASH_BYTES];
    let crockford = CROCKFORD.get_or_init(|| {
        let mut specification = Specification::new();
        specification.symbols.push_str("0123456789abcdefghjkmnpqrstvwxyz");
        specification.encoding().ok()
    });
    let body = crockford.as_ref().unwrap_or(&data_encoding::HEXLOWER).encode(digest);
    with_prefix(&format!("{prefix}{body}"), parse)
}

#[expect(clippy::expect_used, reason = "the text begins with the prefix that is asked for")]
fn with_prefix<T>(text: &str, parse: fn(&str) -> Option<T>) -> T {
    parse(text).expect("invariant: the text has the prefix")
}

fn check_names(headers: &CommonHeaders) -> Result<(), Failure> {
    let names = [
        ("holdfast-session", &headers.session_name),
        ("holdfast-task", &headers.task),
        ("holdfast-class", &headers.class),
    ];
    for (header, name) in names {
        let Some(name) = name else { continue };
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
            let message = format!("the header {header} must have 1 to {NAME_CHARS_MAX} characters");
            return Err(Failure::invalid(header, message));
        }
    }
    // A name that looks like an id would fall under the budget of somebody else's session.
    let is_id =
        headers.session_name.as_deref().is_some_and(|name| SessionId::parse(name).is_some());
    if is_id {
        let message = "the header holdfast-session takes a name of your own, not a session's id";
        return Err(Failure::invalid("holdfast-session", message));
    }
    Ok(())
}

pub(crate) fn default_class(door: Door) -> Arc<str> {
    static INTERACTIVE: OnceLock<Arc<str>> = OnceLock::new();
    static AGENT: OnceLock<Arc<str>> = OnceLock::new();
    let (cell, name) = match door {
        Door::OpenaiChat
        | Door::OpenaiResponses
        | Door::AnthropicMessages
        | Door::OpenaiEmbeddings
        | Door::Gemini
        | Door::CloudflareRun => (&INTERACTIVE, CLASS_INTERACTIVE),
        Door::Session => (&AGENT, CLASS_AGENT),
    };
    Arc::clone(cell.get_or_init(|| Arc::from(name)))
}

fn plan(
    snapshot: &Snapshot,
    kind: &CallKind,
    now: types::Timestamp,
) -> Result<(Arc<Plan>, Option<SharedChoice>), Failure> {
    match kind {
        CallKind::Tool(tool) => Ok((tool_plan(tool), None)),
        CallKind::Model(model) => {
            let name = &model.head.model;
            snapshot.named(name, now).ok_or_else(|| model_not_found(name))
        }
    }
}

/// What a model's name stands for.
pub(crate) fn plan_of(
    snapshot: &Snapshot,
    model: &str,
    now: types::Timestamp,
) -> Result<Arc<Plan>, Failure> {
    snapshot.plan(model, now).ok_or_else(|| model_not_found(model))
}

fn tool_plan(tool: &ToolInvocation) -> Arc<Plan> {
    static FREE: OnceLock<Arc<Price>> = OnceLock::new();
    let name: Arc<str> = Arc::from(format!("{}/{}", tool.server, tool.tool));
    let price = FREE.get_or_init(|| Arc::new(Price::free(TOOL_PRICE)));
    let target = Target {
        provider: Arc::from(TOOL_PROVIDER),
        name: Arc::clone(&name),
        upstream_model: Arc::from(tool.tool.as_str()),
        format: None,
        price: Some(Arc::clone(price)),
        output_tokens_max: None,
        context_tokens: None,
        lacks: types::call::Lacks::default(),
        drain: None,
    };
    Arc::new(Plan { name, targets: vec![Arc::new(target)], policy: RoutePolicy::default() })
}

fn model_not_found(name: &str) -> Failure {
    let message = format!(
        "the model `{name}` does not exist here or this key may not use it; GET /v1/models lists \
         what it may use"
    );
    Failure { param: Some("model".into()), ..Failure::new(ErrorCode::ModelNotFound, message) }
}

#[cfg(test)]
mod tests;
