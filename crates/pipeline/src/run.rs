//! The journey of a Call, top to bottom. Read [`Pipeline::run`] first.
//!
//! Each stage hands the next one what it needs, so that code that forgets a stage does not compile:
//! `identify` makes a `Call`, `admit` an `Admission` that owns its money, `route` its candidates,
//! `execute` attempts at them, and `record` takes those into an [`Answer`]. This file knows the
//! order and nothing else.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use storage::Store;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::call::{Credential, Door, Plan};
use types::clock::{SharedClock, within};
use types::error::{Billed, Headroom};
use types::ids::{CallId, KeyId, NodeId};
use types::{Call, ErrorCode, Failure, Ids, Incoming, Money, Principal};

use crate::admit::first::first;
use crate::admit::{Desk, Escrow, admit};
use crate::auto::RouteTally;
use crate::context::{Fitted, Purse, Summaries, fit};
use crate::execute::attempts::drained::Drains;
use crate::execute::attempts::{Attempts, Shared};
use crate::execute::late;
use crate::identify::directory::Directory;
use crate::identify::values::with_values;
use crate::identify::{Identified, authenticate, default_class, identify, plan_of};
use crate::rates::{self, Asking, Pace};
use crate::record::answer::Answer;
use crate::record::telemetry::Telemetry;
use crate::record::{Recorder, Writer, storage_failure};
use crate::route::candidates;
use crate::route::choose::{choose, has_to_choose};
use crate::slo::{self, Slos};

/// How long a clean stop waits for Calls that still run. Their money is presumed spent if they
/// don't end by then.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// The class of Calls of whom nobody knows who asks, or what for.
pub(crate) const UNIDENTIFIED: &str = "unidentified";

/// What a pipeline is made of.
#[derive(Debug)]
pub struct Parts {
    /// Everything durable.
    pub store: Arc<dyn Store>,
    /// Time.
    pub clock: SharedClock,
    /// Ids.
    pub ids: Arc<Ids>,
    /// Keys, models, budgets, and who does Calls.
    pub directory: Arc<Directory>,
    /// This run of the process.
    pub node: NodeId,
    /// Where background tasks are spawned, so that a clean stop waits for them.
    pub tracker: TaskTracker,
    /// Who is told of Calls that have ended.
    pub telemetry: Telemetry,
}

/// A Call that was not admitted.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{call}: {failure}")]
pub struct Refused {
    /// The id that the answer names.
    pub call: CallId,
    /// Why.
    pub failure: Failure,
}

/// Whether a door asks in another way after this refusal.
pub type Elsewhere<'a> = &'a (dyn Fn(&Failure) -> bool + Send + Sync);

/// The five stages and what they share. Shared behind an `Arc`; holds no lock across an await.
#[derive(Debug)]
pub struct Pipeline {
    pub(crate) parts: Parts,
    pub(crate) shared: Arc<Shared>,
    writer: Mutex<Option<Writer>>,
    /// Ends what runs in the background beside the writer.
    stop: CancellationToken,
}

impl Pipeline {
    /// A pipeline that does nothing in the background yet.
    pub fn new(parts: Parts) -> Self {
        let (store, clock) = (Arc::clone(&parts.store), Arc::clone(&parts.clock));
        let (recorder, writer) = Recorder::new(store, clock, parts.telemetry.clone());
        let escrow = Escrow::new(Desk {
            store: Arc::clone(&parts.store),
            clock: Arc::clone(&parts.clock),
            ids: Arc::clone(&parts.ids),
            node: parts.node.clone(),
            tracker: parts.tracker.clone(),
            recorder: recorder.clone(),
        });
        let (clock, ids) = (Arc::clone(&parts.clock), Arc::clone(&parts.ids));
        let health = Arc::clone(parts.directory.health());
        let summaries = Summaries::default();
        let directory = Arc::clone(&parts.directory);
        let drains = Drains::new(parts.tracker.clone(), Arc::clone(&clock));
        let shared =
            Arc::new(Shared { escrow, recorder, health, clock, ids, summaries, directory, drains });
        let stop = CancellationToken::new();
        Self { parts, shared, writer: Mutex::new(Some(writer)), stop }
    }

    /// Does a plain Call. Dropping the future before it is ready leaves nothing of it behind; a
    /// Call that was made for it before, such as a summary of its history, stays on the bill.
    ///
    /// # Errors
    /// Why the Call was not admitted, with the id under which it was asked.
    pub async fn run(&self, incoming: Incoming) -> Result<Answer, Box<Refused>> {
        self.run_or(incoming, &|_| false).await
    }

    /// The same for a door that asks in another way where `elsewhere` says so of a refusal: that is
    /// none to its caller, and is not counted as one.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_or(
        &self,
        incoming: Incoming,
        elsewhere: Elsewhere<'_>,
    ) -> Result<Answer, Box<Refused>> {
        let id = incoming.id.clone().unwrap_or_else(|| CallId::new(&self.parts.ids));
        let journey = self.journey(id.clone(), incoming, elsewhere).await;
        journey.map_err(|failure| Box::new(Refused { call: id, failure }))
    }

    async fn journey(
        &self,
        id: CallId,
        incoming: Incoming,
        elsewhere: Elsewhere<'_>,
    ) -> Result<Answer, Failure> {
        let Parts { directory, clock, .. } = &self.parts;
        let identified = identify(directory, &**clock, id, incoming);
        let identified = identified.map_err(|failure| self.refused(UNIDENTIFIED, failure))?;
        let class = Arc::clone(&identified.call.class);
        let answer = self.admitted(identified).await;
        answer.map_err(|failure| match elsewhere(&failure) {
            true => failure,
            false => self.refused(&class, failure),
        })
    }

    async fn admitted(&self, identified: Identified) -> Result<Answer, Failure> {
        let clock = &self.parts.clock;
        let upstreams = Arc::clone(&identified.upstreams);
        let identified = match has_to_choose(&identified) {
            true => Box::pin(choose(&self.shared, identified)).await?,
            false => identified,
        };
        let rates = self.parts.directory.rates();
        let ticket = rates::admit(rates, &**clock, &identified.call, Pace::New).await;
        let ticket = ticket.map_err(|why| late::waited(&identified.call, &**clock, why))?;
        // What a limit on rate refuses makes no budgets.
        let identified = match identified.unseen.is_empty() {
            true => identified,
            false => Box::pin(with_values(&self.shared, identified)).await?,
        };
        let mut admission = admit(&self.shared.escrow, &**clock, identified).await?;
        if let Some(ticket) = &ticket {
            ticket.limit(&admission.call, &mut admission.offers)?;
        }
        let offers = std::mem::take(&mut admission.offers);
        let mut candidates = candidates(&upstreams.executors, &admission.call, offers)?;
        let mut fitted = Fitted::default();
        if admission.call.plan.policy.context.is_some() {
            let held = Purse::default();
            fitted = Box::pin(fit(self, &admission.call, &mut candidates, held)).await;
            admission.spent = fitted.charged;
        }
        let first = first(&self.shared, &admission.call, &mut candidates).await?;
        let mut attempts = Attempts::begin(admission, first, candidates, Arc::clone(&self.shared));
        attempts.count_for(ticket);
        Ok(Answer::record(attempts, fitted.took))
    }

    /// Counts a Call that gets no attempt.
    pub(crate) fn refused(&self, class: &str, failure: Failure) -> Failure {
        self.shared.recorder.refused(class, failure.code);
        failure
    }

    /// Holds to the limits on rate what is answered here, without a target: it counts as a request.
    ///
    /// # Errors
    /// As [`Self::run`], for what is not about money.
    pub async fn count_request(&self, incoming: Incoming) -> Result<CallId, Box<Refused>> {
        let Parts { directory, clock, .. } = &self.parts;
        let id = CallId::new(&self.parts.ids);
        let counted = async {
            let identified = identify(directory, &**clock, id.clone(), incoming);
            let call = identified.map_err(|failure| self.refused(UNIDENTIFIED, failure))?.call;
            let ticket = rates::admit(directory.rates(), &**clock, &call, Pace::New).await;
            if let Some(ticket) = ticket.map_err(|failure| self.refused(&call.class, failure))? {
                ticket.report(&Billed::No, Money::ZERO);
            }
            Ok(())
        };
        let counted: Result<(), Failure> = counted.await;
        counted.map(|()| id.clone()).map_err(|failure| Box::new(Refused { call: id, failure }))
    }

    /// What is left of the limits on rate that a Call falls under; `None` = it falls under none.
    pub fn headroom(&self, call: &Call) -> Option<Headroom> {
        self.headroom_for(&Asking::of(call)?)
    }

    /// The same for who asks at `door`; an empty class stands for the door's usual one, an empty
    /// plan for that of the model's name.
    pub fn headroom_at(&self, door: Door, asking: Asking<'_>) -> Option<Headroom> {
        let rates = self.parts.directory.rates();
        if !rates.are_any() {
            return None;
        }
        let class = default_class(door);
        let plan = self.parts.directory.snapshot().plan(asking.model, self.parts.clock.now());
        let asking = Asking {
            class: if asking.class.is_empty() { &class } else { asking.class },
            plan: plan.as_ref().map_or(asking.plan, |plan| &plan.name),
            ..asking
        };
        self.headroom_for(&asking)
    }

    fn headroom_for(&self, asking: &Asking<'_>) -> Option<Headroom> {
        self.parts.directory.rates().headroom(asking, &*self.parts.clock)
    }

    /// Who a credential stands for.
    ///
    /// # Errors
    /// `unauthenticated`.
    #[expect(clippy::unused_async, reason = "kinds of credentials to come ask another server")]
    pub async fn authenticate(&self, credential: &Credential) -> Result<Arc<Principal>, Failure> {
        let known = authenticate(&self.parts.directory.snapshot(), credential);
        let known = known.map_err(|failure| self.refused(UNIDENTIFIED, failure))?;
        Ok(Arc::clone(&known.principal))
    }

    /// What a model's name stands for, if a credential may ask for it.
    ///
    /// # Errors
    /// `unauthenticated`; `model_not_found`.
    pub fn plan(&self, credential: &Credential, model: &str) -> Result<Arc<Plan>, Failure> {
        let snapshot = self.parts.directory.snapshot();
        authenticate(&snapshot, credential)?;
        plan_of(&snapshot, model, self.parts.clock.now())
    }

    /// The models that a route stands for now, and whether each is well: one that is not is asked
    /// last for a while.
    pub fn targets_of_route(&self, route: &str) -> Vec<(String, bool)> {
        let clock = &self.parts.clock;
        let name = format!("route/{route}");
        let plan = self.parts.directory.snapshot().plan(&name, clock.now());
        let targets = plan.iter().flat_map(|plan| &plan.targets);
        let is_well = |target: &str| !self.shared.health.is_open(target, clock.monotonic());
        targets.map(|target| (target.name.to_string(), is_well(&target.name))).collect()
    }

    /// The principal of a key, if the key still exists.
    pub fn principal(&self, key: &KeyId) -> Option<Arc<Principal>> {
        self.parts.directory.principal(key)
    }

    /// Charges what a crashed process left open as presumed, and starts the recorder. Once, before
    /// the first Call.
    ///
    /// # Errors
    /// `storage_unavailable`; `internal` if it was started before.
    pub async fn start(&self) -> Result<(), Failure> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let twice = || Failure::new(ErrorCode::Internal, "the pipeline was started twice");
        let writer = writer.ok_or_else(twice)?;
        let presumed = self.parts.store.presume_open_slices(&self.parts.node).await;
        let presumed = presumed.map_err(|error| storage_failure(&error))?;
        if presumed > 0 {
            tracing::warn!(presumed, "slices of budgets were open at a crash: presumed spent");
        }
        self.parts.tracker.spawn(writer.run());
        if let Some(slos) = self.slos() {
            slo::keep::load(&*self.parts.store, &slos).await;
        }
        let (telemetry, clock) = (&self.parts.telemetry, &self.parts.clock);
        let keep = slo::keep::run(
            telemetry.clone(),
            Arc::clone(&self.parts.store),
            Arc::clone(clock),
            self.stop.clone(),
        );
        self.parts.tracker.spawn(keep);
        let evaluate = slo::evaluate::run(telemetry.clone(), Arc::clone(clock), self.stop.clone());
        self.parts.tracker.spawn(evaluate);
        Ok(())
    }

    /// The clean stop: refuses new Calls, waits at most ten seconds for running ones, flushes the
    /// ledger, returns all slices.
    ///
    /// # Errors
    /// `storage_unavailable` if rows or slices could not be written; they are presumed spent at the
    /// next start.
    pub async fn shutdown(&self) -> Result<(), Failure> {
        // A stop in the middle of a start: without its writer a flush would wait for ever.
        let never_started = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = never_started {
            self.parts.tracker.spawn(writer.run());
        }
        self.shared.recorder.tiers().stop();
        self.shared.drains.stop();
        self.shared.recorder.close().await;
        if within(&*self.parts.clock, STOP_GRACE, self.shared.recorder.all_ended()).await.is_none()
        {
            tracing::warn!("calls still run: what is held for them is presumed spent");
        }
        let flushed = self.shared.recorder.flush().await;
        let drained = self.shared.escrow.drain_all().await;
        self.stop.cancel();
        self.shared.recorder.stop().await;
        flushed.and(drained)
    }

    /// Counters and times of all attempts since the start, in the OpenMetrics text format.
    pub fn metrics(&self) -> String {
        self.shared.recorder.metrics(&self.parts.directory.rates().counts())
    }

    /// What was decided about tiers since the start, by route.
    pub fn tiers(&self) -> Vec<(Arc<str>, RouteTally)> {
        self.shared.recorder.tiers().all()
    }

    /// The objectives, if there are any.
    pub fn slos(&self) -> Option<Arc<Slos>> {
        self.parts.telemetry.slos()
    }

    /// Makes every row of a Call that has ended so far durable.
    ///
    /// # Errors
    /// `storage_unavailable`: the rows are kept and tried again.
    pub async fn flush(&self) -> Result<(), Failure> {
        self.shared.recorder.flush().await
    }
}
