//! Who does a Call: providers, the local engine, tool servers. The pipeline knows them by this
//! trait only.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::call::{Call, Target};
use crate::ids::AttemptId;
use crate::outcome::OutcomeStream;

/// One try of one target.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Its id, which the upstream is told.
    pub id: AttemptId,
    /// What is asked.
    pub call: Arc<Call>,
    /// Where it is sent.
    pub target: Arc<Target>,
    /// The output cap to set in tokens where the client set none or a higher one; `None` = leave it
    /// alone.
    pub output_cap: Option<u64>,
    /// Whether deltas are needed even where bytes could be passed through (a session's own steps).
    pub decode: bool,
    /// Whether the request ends in the beginning of the answer that is to be continued.
    pub continues: bool,
    /// Whether the first frame must be one with content ([`crate::format::ReadOptions`]).
    pub hold_preamble: bool,
    /// Whether log probabilities are wanted, where the target can give them.
    pub logprobs: bool,
    /// How long it may wait for a place on this machine, where another target would take the Call;
    /// `None` = as long as it has to.
    pub patience: Option<Patience>,
    /// Whether its target may have been asked yet.
    pub sent: Sent,
}

/// Whether an attempt's target may have been asked, and so may bill it.
///
/// It may, from the first time its stream is polled, unless its executor says otherwise: so that
/// one that never waits need not know of this. Shared by who does the attempt and who pays for it.
#[derive(Clone, Debug)]
pub struct Sent(Arc<AtomicBool>);

impl Default for Sent {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl Sent {
    /// Nothing was sent yet, or nothing that can be billed. Only for who calls [`Self::now`] before
    /// a byte of a request can leave.
    pub fn not_yet(&self) {
        self.0.store(false, Ordering::Release);
    }

    /// From here on a request may be on its way.
    pub fn now(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the target may have been asked.
    pub fn may_be(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// How long an attempt waits for a place at a target that is run here. A target that has none in
/// time says so by a failure that [turns the Call away](crate::Failure::turns_away).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For a model that is not loaded, and for a place in its batch, together.
    pub wait_max: Duration,
    /// Calls that may wait for such a place before this one.
    pub queue_max: u32,
}

/// Does Calls of one provider.
pub trait Execute: Send + Sync + fmt::Debug {
    /// Starts the attempt; the work happens as the stream is polled.
    ///
    /// The stream ends with exactly one `Finish` or `Failed`. Dropping it cancels the attempt at
    /// once: an upstream connection is closed, a generation stops within one step.
    fn execute(&self, attempt: Attempt) -> OutcomeStream;

    /// Whether a target is known to go on with an answer that was begun: where the last message is
    /// an assistant's, it answers with what follows that text, and does not repeat it.
    fn continues(&self, _target: &Target) -> bool {
        false
    }
}
