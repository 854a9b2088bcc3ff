//! What happened: settlement and the ledger.
pub mod answer;
