//! What a schedule showed: a simulation in which nothing happens proves nothing.

use std::ops::AddAssign;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) admitted: u64,
    pub(super) refused: u64,
    /// Refusals beside which nobody may have held anything for a moment.
    pub(super) judged_exactly: u64,
    pub(super) served: u64,
    pub(super) failed: u64,
    pub(super) crashes: u64,
    /// Budgets of which a dead node left something open.
    pub(super) presumed: u64,
    /// Steps that were billed twice.
    pub(super) twice: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.admitted += other.admitted;
        self.refused += other.refused;
        self.judged_exactly += other.judged_exactly;
        self.served += other.served;
        self.failed += other.failed;
        self.crashes += other.crashes;
        self.presumed += other.presumed;
        self.twice += other.twice;
    }
}
