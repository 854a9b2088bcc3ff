//! Named places at which the process can be made to stop, so that kills can be tested at exact
//! places.
//!
//! `HOLDFAST_STOP_AT=journal.after_tool_outcome` stops the process there with SIGSTOP the first
//! time that it gets there; `journal.after_tool_outcome:3` the third time. The list is closed:
//! [`Point::ALL`]. Off unless set. A stopped process does nothing until it gets SIGCONT, so whoever
//! set it can kill it knowing exactly what it has done.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The variable that names a point.
pub const VARIABLE: &str = "HOLDFAST_STOP_AT";

/// A place to stop at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The intent of a model step is durable; nothing was sent.
    AfterModelIntent,
    /// The outcome of a model step is durable; nothing was made of it.
    AfterModelOutcome,
    /// The intent of a tool step is durable; nothing was sent.
    AfterToolIntent,
    /// The call of a tool was written to its server; it has not answered.
    ToolRunning,
    /// The outcome of a tool step is durable; nothing was made of it.
    AfterToolOutcome,
    /// The decision on a step in doubt is durable; nothing was made of it.
    AfterResolution,
    /// Everything of a turn is durable except its end.
    BeforeTerminal,
}

impl Point {
    /// Every point.
    pub const ALL: [Self; 7] = [
        Self::AfterModelIntent,
        Self::AfterModelOutcome,
        Self::AfterToolIntent,
        Self::ToolRunning,
        Self::AfterToolOutcome,
        Self::AfterResolution,
        Self::BeforeTerminal,
    ];

    /// Its name in [`VARIABLE`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::AfterModelIntent => "journal.after_model_intent",
            Self::AfterModelOutcome => "journal.after_model_outcome",
            Self::AfterToolIntent => "journal.after_tool_intent",
            Self::ToolRunning => "tool.running",
            Self::AfterToolOutcome => "journal.after_tool_outcome",
            Self::AfterResolution => "journal.after_resolution",
            Self::BeforeTerminal => "response.before_terminal",
        }
    }
}

/// Where to stop, and at which time of getting there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    point: Point,
    time: u64,
}

/// The points of one process: where it was told to stop, and how often it was there.
#[derive(Debug, Default)]
pub struct StopPoints {
    wanted: Option<Wanted>,
    reached: AtomicU64,
}

impl StopPoints {
    /// What the text of [`VARIABLE`] says.
    ///
    /// # Errors
    /// No point has that name, or the number behind `:` is none: said in words for the operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, time) = match text.rsplit_once(':') {
            Some((name, time)) => (name, time.parse::<u64>().ok().filter(|time| *time > 0)),
            None => (text, Some(1)),
        };
        let point = Point::ALL.into_iter().find(|point| point.name() == name);
        match (point, time) {
            (Some(point), Some(time)) => {
                Ok(Self { wanted: Some(Wanted { point, time }), reached: AtomicU64::new(0) })
            }
            (_, None) => Err(format!("{VARIABLE}: what follows the colon must be 1 or more")),
            (None, Some(_)) => {
                let names = Point::ALL.map(Point::name).join(", ");
                Err(format!("{VARIABLE}: there is no point {name:?}; there are {names}"))
            }
        }
    }

    /// Whether this process is to stop at `point` at all.
    pub fn wants(&self, point: Point) -> bool {
        self.wanted.is_some_and(|wanted| wanted.point == point)
    }

    /// Counts that `point` was reached, and says whether this is the time to stop.
    pub(crate) fn reach(&self, point: Point) -> bool {
        let Some(wanted) = self.wanted.filter(|wanted| wanted.point == point) else { return false };
        self.reached.fetch_add(1, Ordering::SeqCst) + 1 == wanted.time
    }
}

/// What the environment of this process says; nothing if it says something that is no point (the
/// binary checks that at its start by [`check`]).
fn configured() -> &'static StopPoints {
    static POINTS: OnceLock<StopPoints> = OnceLock::new();
    POINTS.get_or_init(|| match std::env::var(VARIABLE) {
        Ok(text) => StopPoints::parse(&text).unwrap_or_default(),
        Err(_) => StopPoints::default(),
    })
}

/// Checks the variable at the start of the process.
///
/// # Errors
/// What is wrong with it, in words for the operator.
pub fn check() -> Result<(), String> {
    match std::env::var(VARIABLE) {
        Ok(text) => StopPoints::parse(&text).map(|_| ()),
        Err(_) => Ok(()),
    }
}

/// Whether this process is to stop at `point` at all.
pub(crate) fn wants(point: Point) -> bool {
    configured().wants(point)
}

/// Stops the process here, if it was told to.
pub(crate) fn at(point: Point) {
    if configured().reach(point) {
        tracing::warn!(point = point.name(), "stopping as {VARIABLE} says");
        let own = rustix::process::getpid();
        if let Err(error) = rustix::process::kill_process(own, rustix::process::Signal::STOP) {
            tracing::error!(%error, "could not stop");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Point, StopPoints};

    #[test]
    fn every_name_is_understood_and_no_other() {
        for point in Point::ALL {
            assert!(StopPoints::parse(point.name()).unwrap().wants(point));
        }
        assert!(StopPoints::parse("journal").unwrap_err().contains("tool.running"));
        assert!(StopPoints::parse("tool.running:0").unwrap_err().contains("colon"));
    }

    #[test]
    fn stops_at_the_nth_time_only() {
        let points = StopPoints::parse("tool.running:2").unwrap();
        let reached: Vec<bool> = (0..3).map(|_| points.reach(Point::ToolRunning)).collect();
        assert_eq!(reached, [false, true, false]);
        assert!(!points.reach(Point::AfterToolIntent));
    }
}
