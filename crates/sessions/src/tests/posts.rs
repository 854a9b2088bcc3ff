//! Retried POSTs.
