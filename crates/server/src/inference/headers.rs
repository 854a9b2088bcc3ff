//! Holdfast's own response headers, the same at every door.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use pipeline::Bill;

/// Sets one header, if there is something to say that a header can hold.
pub(crate) fn insert(headers: &mut HeaderMap, name: &'static str, value: Option<&str>) {
    if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// What was changed of the request: known when the answer begins.
pub(crate) fn terms(headers: &mut HeaderMap, dropped: &[String], output_cap: Option<u64>) {
    let dropped = dropped.join(",");
    insert(headers, "holdfast-dropped", Some(&*dropped).filter(|names| !names.is_empty()));
    insert(headers, "holdfast-output-cap", output_cap.map(|cap| cap.to_string()).as_deref());
}

/// What it cost: known when the answer is whole.
pub(crate) fn bill(headers: &mut HeaderMap, bill: &Bill) {
    insert(headers, "holdfast-cost", bill.cost.map(|cost| cost.to_string()).as_deref());
    insert(headers, "holdfast-attempts", Some(&bill.attempts.to_string()));
}
