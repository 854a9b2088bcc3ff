//! Calls and attempts in the words of OpenTelemetry's conventions for generative AI, pinned at the
//! version of `opentelemetry-semantic-conventions` 0.66b2; what those have no word for is
//! `holdfast.*`. One table of names for spans and metrics.
//!
//! Invariant: nothing that a prompt, an answer, a tool's arguments or a secret could be in is told.
//! <https://github.com/open-telemetry/semantic-conventions-genai>

use std::time::Duration;

use pipeline::{AttemptEnded, CallEnded};
use providers::trace::{span_id, trace_id};
use types::call::{CallKind, Operation};
use types::{Call, ErrorCode, Stop};

use super::proto::{AnyValue, KeyValue, List, Span, Status, Value, attribute, text, whole};

pub(super) const OPERATION: &str = "gen_ai.operation.name";
pub(super) const PROVIDER: &str = "gen_ai.provider.name";
pub(super) const REQUEST_MODEL: &str = "gen_ai.request.model";
pub(super) const TOKEN_TYPE: &str = "gen_ai.token.type";
pub(super) const ERROR_TYPE: &str = "error.type";

/// `SPAN_KIND_INTERNAL`, `_SERVER` and `_CLIENT`.
const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
/// `STATUS_CODE_ERROR`.
const ERROR: i32 = 2;

/// What a Call does, as the conventions have it; counting tokens has no word there.
pub(super) fn operation(call: &Call) -> &'static str {
    match &call.kind {
        CallKind::Tool(_) => "execute_tool",
        CallKind::Model(model) => match model.operation {
            Operation::Chat => "chat",
            Operation::Embed => "embeddings",
            Operation::CountTokens => "count_tokens",
        },
    }
}

/// The span of a Call.
pub(super) fn of_call(ended: &CallEnded) -> Span {
    let call = &*ended.call;
    let caller = call.trace.map(|trace| trace.span).filter(|span| *span != [0; 8]);
    // A session's first step is the parent of the others, and stands below the caller's span.
    let parent = call.parent.as_ref().map(|parent| span_id(parent.as_str())).or(caller);
    let mut attributes = subject(call);
    attributes.extend([
        text("holdfast.call.id", call.id.as_str()),
        text("holdfast.task", &call.task),
        text("holdfast.class", &call.class),
        text("holdfast.door", call.door.name()),
        text("holdfast.key.name", &call.principal.key_name),
        text("holdfast.target", &ended.target.name),
        seconds("holdfast.policy_time", ended.policy),
    ]);
    attributes.extend(call.session.as_ref().map(|id| text("gen_ai.conversation.id", id.as_str())));
    attributes.extend(call.step.as_ref().map(|id| text("holdfast.step.id", id.as_str())));
    attributes.extend(first_chunk(ended.first_content));
    attributes.extend(ended.error.map(|code| text(ERROR_TYPE, code.name())));
    let kind = match &call.kind {
        CallKind::Model(_) => SERVER,
        CallKind::Tool(_) => INTERNAL,
    };
    Span {
        span_id: span_id(call.id.as_str()).into(),
        parent_span_id: parent.map(Vec::from).unwrap_or_default(),
        name: name(call),
        kind,
        attributes,
        status: ended.error.map(failed),
        ..timed(call, Duration::ZERO, ended.took)
    }
}

/// The span of an attempt, below its Call's.
pub(super) fn of_attempt(ended: &AttemptEnded) -> Span {
    let call = &*ended.call;
    let mut attributes = vec![
        text(OPERATION, operation(call)),
        text(PROVIDER, &ended.target.provider),
        text(REQUEST_MODEL, &ended.target.upstream_model),
        text("holdfast.call.id", call.id.as_str()),
        text("holdfast.attempt.id", ended.attempt.as_str()),
        text("holdfast.target", &ended.target.name),
    ];
    if let Some(usage) = ended.usage {
        let counts = [
            ("gen_ai.usage.input_tokens", usage.input_tokens),
            ("gen_ai.usage.output_tokens", usage.output_tokens),
            ("gen_ai.usage.cache_read.input_tokens", usage.cached_tokens),
            ("gen_ai.usage.cache_creation.input_tokens", usage.cache_write_tokens),
            ("gen_ai.usage.reasoning.output_tokens", usage.reasoning_tokens),
        ];
        attributes.extend(counts.map(|(key, count)| whole(key, count)));
    }
    let version = ended.model_version.as_deref();
    attributes.extend(version.map(|version| text("gen_ai.response.model", version)));
    attributes.extend(ended.stop.map(finish_reason));
    attributes.extend(first_chunk(ended.first_content));
    attributes.extend(ended.error.map(|code| text(ERROR_TYPE, code.name())));
    Span {
        span_id: span_id(ended.attempt.as_str()).into(),
        parent_span_id: span_id(call.id.as_str()).into(),
        name: format!("{} {}", operation(call), ended.target.upstream_model),
        kind: CLIENT,
        attributes,
        status: ended.error.map(failed),
        ..timed(call, ended.began, ended.took)
    }
}

/// What a Call asks of whom: a model, or a tool.
fn subject(call: &Call) -> Vec<KeyValue> {
    let mut attributes = vec![text(OPERATION, operation(call))];
    match &call.kind {
        CallKind::Model(model) => attributes.push(text(REQUEST_MODEL, &model.head.model)),
        CallKind::Tool(tool) => attributes.extend([
            text("gen_ai.tool.name", &tool.tool),
            text("holdfast.tool.server", &tool.server),
        ]),
    }
    attributes
}

fn name(call: &Call) -> String {
    match &call.kind {
        CallKind::Model(model) => format!("{} {}", operation(call), model.head.model),
        CallKind::Tool(tool) => format!("{} {}", operation(call), tool.tool),
    }
}

/// A span's trace and times: `began` after the Call's arrival, for `took`.
fn timed(call: &Call, began: Duration, took: Duration) -> Span {
    let start = unix_nanos(call.started_at).saturating_add(nanos(began));
    Span {
        trace_id: trace_id(call).into(),
        start_unix_nanos: start,
        end_unix_nanos: start.saturating_add(nanos(took)),
        ..Span::default()
    }
}

pub(super) fn unix_nanos(at: types::Timestamp) -> u64 {
    u64::try_from(at.0).unwrap_or(0).saturating_mul(1_000)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn seconds(key: &str, duration: Duration) -> KeyValue {
    attribute(key, Value::Number(duration.as_secs_f64()))
}

fn first_chunk(first: Option<Duration>) -> Option<KeyValue> {
    first.map(|first| seconds("gen_ai.response.time_to_first_chunk", first))
}

/// The code alone: a provider's words may repeat the prompt.
fn failed(code: ErrorCode) -> Status {
    Status { message: code.name().to_owned(), code: ERROR }
}

fn finish_reason(stop: Stop) -> KeyValue {
    let reason = match stop {
        Stop::End => "stop",
        Stop::Length => "length",
        Stop::ToolCalls => "tool_calls",
        Stop::ContentFilter => "content_filter",
    };
    let reason = AnyValue { value: Some(Value::Text(reason.to_owned())) };
    attribute("gen_ai.response.finish_reasons", Value::List(List { values: vec![reason] }))
}
