//! Holdfast's own response headers, the same at every door.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, IntoHeaderName};
use pipeline::Bill;

/// Room for the headers of an answer: more than most have.
pub(crate) const USUAL: usize = 12;

/// Who answers.
pub(crate) const MODEL: HeaderName = HeaderName::from_static("holdfast-model");
/// The session that the Call belongs to.
pub(crate) const SESSION: HeaderName = HeaderName::from_static("holdfast-session");
/// What was done with the history.
pub(crate) const CONTEXT: HeaderName = HeaderName::from_static("holdfast-context");
/// What came of judging the answer.
pub(crate) const CASCADE: HeaderName = HeaderName::from_static("holdfast-cascade");
/// Which tier the Call is for.
pub(crate) const TIER: HeaderName = HeaderName::from_static("holdfast-tier");
const DROPPED: HeaderName = HeaderName::from_static("holdfast-dropped");
const OUTPUT_CAP: HeaderName = HeaderName::from_static("holdfast-output-cap");
const COST: HeaderName = HeaderName::from_static("holdfast-cost");
const ATTEMPTS: HeaderName = HeaderName::from_static("holdfast-attempts");

/// Sets one header, if there is something to say that a header can hold.
pub(crate) fn insert(headers: &mut HeaderMap, name: impl IntoHeaderName, value: Option<&str>) {
    if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
        headers.insert(name, value);
    }
}

/// What was changed of the request: known when the answer begins.
pub(crate) fn terms(headers: &mut HeaderMap, dropped: &[String], output_cap: Option<u64>) {
    let dropped = dropped.join(",");
    insert(headers, DROPPED, Some(&*dropped).filter(|names| !names.is_empty()));
    if let Some(cap) = output_cap {
        headers.insert(OUTPUT_CAP, cap.into());
    }
}

/// What it cost: known when the answer is whole.
pub(crate) fn bill(headers: &mut HeaderMap, bill: &Bill) {
    insert(headers, COST, bill.cost.map(|cost| cost.to_string()).as_deref());
    headers.insert(ATTEMPTS, bill.attempts.into());
}
