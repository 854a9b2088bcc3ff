//! Calls for this module's tests.

use std::sync::Arc;

use types::call::{CallKind, Door, Lacks, Plan, RoutePolicy, Target, ToolInvocation};
use types::clock::FakeClock;
use types::ids::{CallId, KeyId};
use types::principal::Role;
use types::{Call, Ids, Metadata, Notes, Principal, Timestamp};

pub(crate) fn ids(seed: u64) -> Ids {
    Ids::seeded(Arc::new(FakeClock::new(Timestamp(0))), seed)
}

/// A Call whose plan has these targets, with this metadata as JSON.
pub(crate) fn call(targets: &[&str], metadata: &str) -> Call {
    let ids = ids(1);
    let principal = Principal {
        account: Arc::from("a"),
        key: KeyId::new(&ids),
        key_name: Arc::from("ci"),
        user: Arc::from("ada"),
        role: Role::Member,
        output_cap_default: None,
    };
    let target = |name: &&str| {
        let (provider, model) = name.split_once('/').unwrap();
        Arc::new(Target {
            provider: Arc::from(provider),
            name: Arc::from(*name),
            upstream_model: Arc::from(model),
            format: None,
            price: None,
            output_tokens_max: None,
            context_tokens: None,
            lacks: Lacks::default(),
            drain: None,
        })
    };
    Call {
        id: CallId::new(&ids),
        parent: None,
        principal: Arc::new(principal),
        session: None,
        session_root: None,
        step: None,
        task: Arc::from("t"),
        class: Arc::from("batch"),
        door: Door::OpenaiChat,
        gateway: None,
        metadata: Metadata::parse(metadata.as_bytes()).unwrap(),
        trace: None,
        notes: Notes::default(),
        budget: None,
        deadline: None,
        time: None,
        asks: None,
        pins: Vec::new(),
        // Saturday, 2026-11-21, 23:15 UTC.
        started_at: Timestamp(1_795_302_900 * 1_000_000),
        started: std::time::Duration::ZERO,
        plan: Arc::new(Plan {
            name: Arc::from("route/r"),
            targets: targets.iter().map(target).collect(),
            policy: RoutePolicy::default(),
        }),
        kind: CallKind::Tool(ToolInvocation {
            server: "s".to_owned(),
            tool: "t".to_owned(),
            arguments: serde_json::Value::Null,
            idempotency_key: String::new(),
        }),
    }
}
