//! A node of the simulation: the whole pipeline on a gate to the store, a clock and a runtime of
//! its own, which only goes on when it is told to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use pipeline::{
    Answer, Directory, DirectoryParts, Parts, Pipeline, ProviderInfo, Refused, StepAdmission,
    StepIntent, StepRun, StepTries, Telemetry, Upstreams,
};
use storage::{Commit, Store, WindowKey};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use types::clock::FakeClock;
use types::ids::{CallId, NodeId, ReservationId};
use types::{Execute, Failure, Ids, Incoming, Money, Timestamp};

use super::disk::Gate;
use crate::world::Targets;

/// How often a node's tasks get their turn when it goes on.
const TURNS: usize = 4;

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) call: CallId,
    pub(super) cap: Option<u64>,
    pub(super) dear: bool,
    /// The budgets that it falls under, by their place.
    pub(super) scope: Vec<usize>,
    /// The earliest day that it may count in.
    pub(super) since: WindowKey,
}

/// What became of asking.
pub(super) enum Asking {
    Plain(JoinHandle<Result<Answer, Box<Refused>>>),
    Step(JoinHandle<Result<StepAdmission, Failure>>, Arc<Mutex<Option<Journaled>>>),
}

/// What a session's journal has of a step once its intent was committed.
#[derive(Clone, Debug)]
pub(super) struct Journaled {
    pub(super) intent: StepIntent,
    pub(super) reservation: Option<ReservationId>,
    pub(super) bound: Money,
}

/// A Call that waits for its admission.
pub(super) struct Waiting {
    pub(super) ask: Ask,
    pub(super) asking: Asking,
    /// What was at most taken of each budget in scope while it waited, in order of scope.
    pub(super) peaks: Vec<Money>,
    /// The least limit meanwhile.
    pub(super) limits: Vec<Money>,
    /// What others beside it may have held for a moment.
    pub(super) beside: Vec<Money>,
    /// Whether its refusal can be judged at all.
    pub(super) alone: bool,
}

pub(super) enum Running {
    Plain(Box<Answer>),
    Step(Box<StepRun>, Box<Journaled>),
}

/// A Call that was admitted.
pub(super) struct Flight {
    pub(super) ask: Ask,
    pub(super) bound: Money,
    /// The latest window when it was admitted, for each budget in scope.
    pub(super) until: Vec<WindowKey>,
    pub(super) running: Running,
}

/// A plain Call that has ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) ask: Ask,
    pub(super) bound: Money,
    pub(super) until: Vec<WindowKey>,
    pub(super) charge: Money,
}

pub(super) struct Node {
    pub(super) life: u64,
    pub(super) clock: Arc<FakeClock>,
    pub(super) gate: Arc<Gate>,
    pub(super) runtime: Runtime,
    pub(super) directory: Arc<Directory>,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) targets: Arc<Targets>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) flights: Vec<Flight>,
    pub(super) ended: Vec<Ended>,
    /// Steps' rows that are being written.
    pub(super) writing: Vec<JoinHandle<()>>,
    /// By budget, in this life: the largest bound of whoever got money, or may have.
    pub(super) largest: BTreeMap<usize, Money>,
    /// By budget, in this life: the bounds of those that left before they were admitted.
    pub(super) left: BTreeMap<usize, Money>,
    /// By budget, in this life: the highest limit.
    pub(super) limits: BTreeMap<usize, Money>,
    /// Its disk has failed in this life.
    pub(super) failed: bool,
    /// Its disk fails now.
    pub(super) disk_down: bool,
    pub(super) paused: bool,
}

impl Node {
    /// A node that has loaded what there is, and is not started yet.
    pub(super) fn new(gate: Arc<Gate>, now: Timestamp, (life, seed): (u64, u64)) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let clock = Arc::new(FakeClock::new(now));
        let ids = Arc::new(Ids::seeded(Arc::clone(&clock) as _, seed));
        let targets = Arc::new(Targets::default());
        let tracker = TaskTracker::new();
        let upstreams = upstreams(&targets);
        let parts = DirectoryParts {
            store: Arc::clone(&gate) as _,
            clock: Arc::clone(&clock) as _,
            ids: Arc::clone(&ids),
            upstreams,
            tracker: tracker.clone(),
        };
        let directory = Arc::new(runtime.block_on(Directory::load(parts)).unwrap());
        let pipeline = Arc::new(Pipeline::new(Parts {
            store: Arc::clone(&gate) as _,
            clock: Arc::clone(&clock) as _,
            ids: Arc::clone(&ids),
            directory: Arc::clone(&directory),
            node: NodeId::new(&ids),
            tracker,
            telemetry: Telemetry::default(),
        }));
        Self {
            life,
            clock,
            gate,
            runtime,
            directory,
            pipeline,
            targets,
            waiting: Vec::new(),
            flights: Vec::new(),
            ended: Vec::new(),
            writing: Vec::new(),
            largest: BTreeMap::new(),
            left: BTreeMap::new(),
            limits: BTreeMap::new(),
            failed: false,
            disk_down: false,
            paused: false,
        }
    }

    /// Lets its tasks run for some turns.
    pub(super) fn go_on(&self) {
        self.runtime.block_on(async {
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Asks for a plain Call.
    pub(super) fn ask(&self, incoming: Incoming) -> Asking {
        let pipeline = Arc::clone(&self.pipeline);
        Asking::Plain(self.runtime.spawn(async move { pipeline.run(incoming).await }))
    }

    /// Asks for a session's step: admitted, and its intent committed.
    pub(super) fn ask_step(&self, incoming: Incoming) -> Asking {
        let (pipeline, gate) = (Arc::clone(&self.pipeline), Arc::clone(&self.gate));
        let clock = Arc::clone(&self.clock);
        let journaled = Arc::new(Mutex::new(None));
        let told = Arc::clone(&journaled);
        let task = self.runtime.spawn(async move {
            let admitted = pipeline.admit_step(incoming).await;
            let admission = admitted.map_err(|refused| refused.failure)?;
            *told.lock().unwrap() = Some(Journaled::new(&admission));
            commit_intent(&pipeline, &gate, &clock, admission).await
        });
        Asking::Step(task, journaled)
    }

    /// Writes the row of a step that has ended, however often the disk fails.
    pub(super) fn write_outcome(&mut self, run: StepRun) {
        let (gate, clock) = (Arc::clone(&self.gate), Arc::clone(&self.clock));
        let ledger = vec![run.into_row()];
        self.writing.push(self.runtime.spawn(async move {
            let commit = Commit { ledger, ..Commit::default() };
            while gate.commit(commit.clone()).await.is_err() {
                types::Clock::sleep(&*clock, RETRY).await;
            }
        }));
    }

    /// Whether nothing is under way but what waits for time to pass.
    pub(super) fn is_idle(&self) -> bool {
        self.gate.waiting() == 0 && self.waiting.is_empty()
    }

    pub(super) fn is_written(&self) -> bool {
        self.writing.iter().all(JoinHandle::is_finished)
    }

    /// Polls a Call's answer once.
    pub(super) fn begin(&self, answer: &mut Answer) {
        let _inside = self.runtime.enter();
        assert!(futures_util::StreamExt::next(answer).now_or_never().is_none(), "it has begun");
    }
}

/// One provider, whose answers are told by the harness.
pub(super) fn upstreams(targets: &Arc<Targets>) -> Upstreams {
    let executor = Arc::clone(targets) as Arc<dyn Execute>;
    let paid = ProviderInfo { name: "paid".to_owned(), ..ProviderInfo::default() };
    Upstreams {
        providers: vec![paid],
        routes: Vec::new(),
        executors: [("paid".to_owned(), executor)].into(),
    }
}

/// Between two tries to write a step's outcome.
const RETRY: std::time::Duration = std::time::Duration::from_millis(20);

impl Journaled {
    fn new(admission: &StepAdmission) -> Self {
        let held = admission.reservation.as_ref();
        Self {
            intent: admission.intent(),
            reservation: held.map(|held| held.id.clone()),
            bound: held.map_or(Money::ZERO, |held| held.amount),
        }
    }
}

/// As a session does it: again while the disk fails, once more after making room, then the refusal.
async fn commit_intent(
    pipeline: &Pipeline,
    gate: &Gate,
    clock: &FakeClock,
    admission: StepAdmission,
) -> Result<StepAdmission, Failure> {
    let reservations: Vec<_> = admission.reservation.clone().into_iter().collect();
    let mut made_room = false;
    loop {
        let reservations = reservations.clone();
        match gate.commit(Commit { reservations, ..Commit::default() }).await {
            Ok(_) => return Ok(admission),
            Err(storage::Error::Unavailable(_)) => types::Clock::sleep(clock, RETRY).await,
            Err(storage::Error::OverLimit { .. }) if !made_room => {
                pipeline.make_room(&admission).await?;
                made_room = true;
            }
            Err(error) => {
                let mut tries = StepTries::default();
                return Err(pipeline.over_limit(&admission, &error, &mut tries));
            }
        }
    }
}
