//! Which trace a Call is in, and the names of its spans, for whoever exports and whoever is told.
//!
//! Ids are hashes of what they name: both sides know them without a word between them. It must not
//! know what is exported.
//! <https://www.w3.org/TR/trace-context/>

use sha2::{Digest, Sha256};
use types::{Attempt, Call};

/// The header that says which span a request is below: an attempt's.
pub fn traceparent(attempt: &Attempt, sampling: f64) -> String {
    let (trace, span) = (hex(&trace_id(&attempt.call)), hex(&span_id(attempt.id.as_str())));
    let flags = u8::from(is_sampled(&attempt.call, sampling));
    format!("00-{trace}-{span}-{flags:02x}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The trace of a Call: its caller's, else that of all Calls of its task.
pub fn trace_id(call: &Call) -> [u8; 16] {
    call.trace.map_or_else(|| hashed(&[&call.principal.account, &call.task]), |trace| trace.trace)
}

/// Whether a Call's spans are exported: as its caller says; else by the trace's id, so that all of
/// a trace is kept or nothing.
pub fn is_sampled(call: &Call, sampling: f64) -> bool {
    if let Some(trace) = call.trace {
        return trace.is_sampled;
    }
    let [.., a, b, c, d] = trace_id(call);
    f64::from(u32::from_be_bytes([a, b, c, d])) < sampling * (f64::from(u32::MAX) + 1.0)
}

/// The id of the span of a Call or of an attempt: no state is needed to name it again.
pub fn span_id(id: &str) -> [u8; 8] {
    hashed(&[id])
}

fn hashed<const N: usize>(parts: &[&str]) -> [u8; N] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let mut bytes = [0; N];
    bytes.iter_mut().zip(digest).for_each(|(byte, hashed)| *byte = hashed);
    bytes
}
