//! AI Gateway's own words: the steps of its universal endpoint, and models by their provider's
//! names.
//!
//! What a step asks is in its provider's format and is handed on as it came, byte for byte; of a
//! body only the model's name is replaced.

use std::collections::BTreeMap;

use ::types::{ErrorCode, Failure};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::edit::{apply, put, text};
use crate::head::TopLevel;
use crate::json::{at, join, malformed};

/// Steps of one request at most. Each may cost a request and its time.
const STEPS_MAX: usize = 16;

/// A step of the universal endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The provider, as AI Gateway names it.
    pub provider: String,
    /// What is asked of it: a path below its base URL.
    pub endpoint: String,
    /// Request headers of this step, lower-case names.
    pub headers: BTreeMap<String, String>,
    /// What the step asks about time and tries.
    pub config: StepConfig,
    /// The body, in the provider's format.
    pub query: Bytes,
}

/// What a step asks about time and tries, as AI Gateway spells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StepConfig {
    /// Milliseconds to the first part of an answer.
    pub request_timeout: Option<u64>,
    /// Tries in all.
    pub max_attempts: Option<u64>,
    /// Milliseconds before the next try.
    pub retry_delay: Option<u64>,
    /// How that grows.
    pub backoff: Option<String>,
}

#[derive(Deserialize)]
struct Said<'a> {
    provider: String,
    endpoint: String,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
    #[serde(default)]
    config: Option<StepConfig>,
    #[serde(borrow)]
    query: &'a RawValue,
}

/// The steps of a universal request: a list of them, or one.
///
/// # Errors
/// A 400 that names the field.
pub fn steps(body: &Bytes) -> Result<Vec<Step>, Failure> {
    let list: Vec<&RawValue> = match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => serde_json::from_slice(body).map_err(|error| malformed(&error))?,
        _ => vec![serde_json::from_slice(body).map_err(|error| malformed(&error))?],
    };
    if list.is_empty() || list.len() > STEPS_MAX {
        let text = format!("give a list of 1 to {STEPS_MAX} steps, not {}", list.len());
        return Err(Failure::new(ErrorCode::InvalidRequest, text));
    }
    list.iter().enumerate().map(|(index, raw)| step(raw, &at("", index), body)).collect()
}

fn step(raw: &RawValue, path: &str, body: &Bytes) -> Result<Step, Failure> {
    let said: Said<'_> = serde_json::from_str(raw.get()).map_err(|error| {
        // Its place in the text would be the step's own, not the body's.
        let what = error.to_string();
        let what = what.split(" at line").next().unwrap_or_default().to_owned();
        let text = format!("the step {path} is wrong: {what}; it is {{provider, endpoint, query}}");
        Failure::invalid(path, text)
    })?;
    if !said.query.get().starts_with('{') {
        let field = join(path, "query");
        let text = format!("'{field}' must be the JSON body that the provider takes");
        return Err(Failure::invalid(field, text));
    }
    let headers = said.headers.into_iter().filter(|(_, value)| !value.is_null());
    let headers = headers.map(|(name, value)| match value {
        Value::String(text) => (name.to_ascii_lowercase(), text),
        other => (name.to_ascii_lowercase(), other.to_string()),
    });
    Ok(Step {
        provider: said.provider,
        endpoint: said.endpoint,
        headers: headers.collect(),
        config: said.config.unwrap_or_default(),
        query: body.slice_ref(said.query.get().as_bytes()),
    })
}

/// A body with another name for its model; every other byte stays. One without a model stays as it
/// is: whose door it comes to says what is missing.
///
/// # Errors
/// A 400 for a body that is no JSON object, or a model that is no string.
pub fn renamed(body: &Bytes, name: impl FnOnce(&str) -> String) -> Result<Bytes, Failure> {
    let top = TopLevel::read(body)?;
    let (Some(model), Some(span)) = (top.get::<String>("model", "a string")?, top.span("model"))
    else {
        return Ok(body.clone());
    };
    let new = name(&model);
    if new == model {
        return Ok(body.clone());
    }
    Ok(apply(body, vec![(span, text(&new))]))
}

/// A body for this model, which its address names: every other byte stays.
///
/// # Errors
/// A 400 for a body that is no JSON object.
pub fn addressed(body: &Bytes, name: &str) -> Result<Bytes, Failure> {
    let top = TopLevel::read(body)?;
    let field = put(top.span("model"), "model", text(name), top.insert_at());
    Ok(apply(body, vec![field]))
}

#[cfg(test)]
mod tests;
