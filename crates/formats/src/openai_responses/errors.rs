//! Errors of the Responses API: as an HTTP body, and as the `error` of a response that failed.
//!
//! Both carry OpenAI's `type` and `code` and, in `holdfast`, our stable code and the Call's id.
//! `error` of a response always has `message`, `type` and `code` as strings: a client rejects the
//! body without them.

use ::types::Failure;
use ::types::ids::CallId;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::openai::error_object;

/// An HTTP error body.
pub fn render(failure: &Failure, call: Option<&CallId>) -> Bytes {
    Bytes::from(json!({ "error": error_object(failure, call) }).to_string())
}

/// The `error` of a response that failed.
pub fn response_error(failure: &Failure, call: Option<&CallId>) -> Value {
    let mut error = error_object(failure, call);
    if let Value::Object(map) = &mut error {
        map.shift_remove("param");
    }
    error
}
