//! What a group is, and that nobody who asks waits for one.

use storage::{Ledger, SqliteStore};
use types::call::{CallKind, Door, Plan, Target, ToolInvocation};
use types::clock::FakeClock;
use types::ids::{AttemptId, CallId, KeyId};
use types::principal::Role;
use types::{Call, Ids, Money, Principal, Timestamp};

use super::*;
use crate::admit::Terms;
use crate::record::Recorder;

struct Desk {
    _folder: tempfile::TempDir,
    store: Arc<SqliteStore>,
    clock: Arc<FakeClock>,
    ids: Ids,
    recorder: Recorder,
}

fn desk() -> (Desk, Writer) {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(&folder.path().join("holdfast.db")).unwrap());
    let clock = Arc::new(FakeClock::new(Timestamp(0)));
    let ids = Ids::seeded(Arc::<FakeClock>::clone(&clock), 1);
    let (recorder, writer) = Recorder::new(
        Arc::<SqliteStore>::clone(&store),
        Arc::<FakeClock>::clone(&clock),
        crate::Telemetry::default(),
    );
    (Desk { _folder: folder, store, clock, ids, recorder }, writer)
}

impl Desk {
    /// Ends a Call; its row waits to be written.
    fn end_one(&self) -> CallId {
        let call = self.call();
        let (id, terms) =
            (call.id.clone(), Terms { amount: Money::ZERO, bound: Money::ZERO, output_cap: None });
        let attempt = AttemptId::new(&self.ids);
        let clock: SharedClock = Arc::<FakeClock>::clone(&self.clock);
        let meter = Meter::new(Arc::new(call), Arc::new(target()), attempt, terms, clock);
        let place = self.recorder.reserve_place().unwrap();
        place.fill(Ended { meter, money: Settlement::Done(Vec::new()) });
        id
    }

    fn call(&self) -> Call {
        let key = KeyId::new(&self.ids);
        let principal = Principal {
            account: Arc::from("a"),
            user: Arc::from(key.as_str()),
            key,
            key_name: Arc::from("k"),
            role: Role::Member,
            output_cap_default: None,
        };
        Call {
            id: CallId::new(&self.ids),
            parent: None,
            principal: Arc::new(principal),
            session: None,
            session_root: None,
            step: None,
            task: Arc::from("t"),
            class: Arc::from("c"),
            door: Door::OpenaiChat,
            gateway: None,
            metadata: types::Metadata::default(),
            trace: None,
            notes: types::Notes::default(),
            budget: None,
            deadline: None,
            time: None,
            asks: None,
            pins: Vec::new(),
            started_at: Timestamp(0),
            started: Duration::ZERO,
            plan: Arc::new(Plan {
                name: Arc::from("m"),
                targets: vec![],
                policy: types::call::RoutePolicy::default(),
            }),
            kind: CallKind::Tool(ToolInvocation {
                server: "s".to_owned(),
                tool: "t".to_owned(),
                arguments: serde_json::Value::Null,
                idempotency_key: String::new(),
            }),
        }
    }

    async fn is_written(&self, call: &CallId) -> bool {
        !Ledger::call(&*self.store, call).await.unwrap().is_empty()
    }
}

fn target() -> Target {
    Target {
        provider: Arc::from("p"),
        name: Arc::from("p/m"),
        upstream_model: Arc::from("m"),
        format: None,
        price: None,
        output_tokens_max: None,
        context_tokens: None,
        lacks: types::call::Lacks::default(),
        drain: None,
    }
}

#[tokio::test]
async fn a_group_is_what_had_ended_when_it_began() {
    let (desk, mut writer) = desk();
    let before: Vec<_> = (0..3).map(|_| desk.end_one()).collect();
    let mut writing = Box::pin(writer.write());
    assert!(futures_util::poll!(&mut writing).is_pending(), "the store commits on its own thread");
    let after = desk.end_one();
    writing.await.unwrap();
    for call in &before {
        assert!(desk.is_written(call).await);
    }
    assert!(!desk.is_written(&after).await, "it waits for the next group");
    writer.write().await.unwrap();
    assert!(desk.is_written(&after).await);
}

#[tokio::test]
async fn one_commit_takes_a_bounded_number_and_the_group_is_written_all_the_same() {
    let (desk, mut writer) = desk();
    let calls: Vec<_> = (0..COMMIT_ROWS_MAX + 1).map(|_| desk.end_one()).collect();
    writer.write().await.unwrap();
    assert!(writer.kept.is_empty() && writer.ended.is_empty());
    assert!(desk.is_written(&calls[COMMIT_ROWS_MAX]).await);
}

#[tokio::test]
async fn who_asks_for_a_flush_does_not_wait_for_company() {
    let (desk, writer) = desk();
    let call = desk.end_one();
    // The clock stands still: only what needs no timer can end.
    let asking = async {
        // The writer has the row, and gathers.
        tokio::task::yield_now().await;
        desk.recorder.flush().await.unwrap();
        desk.is_written(&call).await
    };
    tokio::select! {
        biased;
        () = writer.run() => panic!("it was not stopped"),
        written = asking => assert!(written),
    }
}
