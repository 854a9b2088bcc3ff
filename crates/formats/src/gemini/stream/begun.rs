//! What of a stream was passed on to a client, so that another target can go on with it.
//!
//! Read only when an answer broke off. Every chunk is a small answer, so that all that has to be
//! kept up is the id and the model's name. A client that has seen why the model stopped, a second
//! candidate, or a part that is no text would read the rest wrongly: nobody goes on there.

use ::types::format::Begun;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::sse;

/// Fields of a part of text.
const OF_TEXT: [&str; 3] = ["text", "thought", "thoughtSignature"];
/// Fields of a candidate that is not at its end.
const OF_CANDIDATE: [&str; 4] = ["content", "index", "safetyRatings", "tokenCount"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk {
    #[serde(default)]
    candidates: Vec<Map<String, Value>>,
    #[serde(default)]
    prompt_feedback: Option<Value>,
    #[serde(default)]
    model_version: Option<String>,
    #[serde(default)]
    response_id: Option<String>,
}

/// Reads whole events that were passed on; `false` = nobody can go on behind them.
pub(crate) fn read_begun(events: &[u8], begun: &mut Begun) -> bool {
    sse::events(events).all(|event| {
        let Some(data) = sse::data(event) else { return true };
        let Ok(chunk) = serde_json::from_slice::<Chunk>(&data) else { return false };
        begun.started = true;
        begun.id = chunk.response_id.or_else(|| begun.id.take());
        begun.model = chunk.model_version.or_else(|| begun.model.take());
        let blocked = chunk.prompt_feedback.is_some_and(|told| told.get("blockReason").is_some());
        !blocked && chunk.candidates.iter().all(is_plain)
    })
}

fn is_plain(candidate: &Map<String, Value>) -> bool {
    let is_text = |part: &Value| {
        part.as_object()
            .is_some_and(|part| part.keys().all(|name| OF_TEXT.contains(&name.as_str())))
    };
    let parts = candidate.get("content").and_then(|content| content.get("parts"));
    candidate.get("index").and_then(Value::as_u64).unwrap_or_default() == 0
        && candidate.keys().all(|name| OF_CANDIDATE.contains(&name.as_str()))
        && parts.and_then(Value::as_array).into_iter().flatten().all(is_text)
}

#[cfg(test)]
mod tests;
