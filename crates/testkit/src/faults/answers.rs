//! What a provider says in each wire format: the healthy answer, in pieces and whole, and errors.
//!
//! The shapes are those of the public APIs. Must not know why something is said.

use serde_json::{Value, json};

/// Words of the healthy answer: `w01` to `w60`.
pub const WORDS: usize = 60;
/// Output tokens that it is counted as: one per word.
const OUTPUT_TOKENS: usize = WORDS;

/// A wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    /// OpenAI's chat completions.
    Chat,
    /// Anthropic's messages.
    Messages,
    /// Gemini's `generateContent`.
    Gemini,
    /// OpenAI's Responses API.
    Responses,
}

impl Api {
    /// Its name in the log.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Messages => "messages",
            Self::Gemini => "gemini",
            Self::Responses => "responses",
        }
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    RateLimited,
    Failed,
    Unavailable,
    ContextLength,
    ContentFilter,
    /// The conversation ends with words put into the model's mouth.
    Prefill,
}

impl Refusal {
    pub(super) const fn status(self) -> u16 {
        match self {
            Self::RateLimited => 429,
            Self::Failed => 500,
            Self::Unavailable => 503,
            Self::ContextLength | Self::ContentFilter | Self::Prefill => 400,
        }
    }
}

/// An answer's content and what it costs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer<'a> {
    pub(super) api: Api,
    /// The model as asked for: the one that says that it answers.
    pub(super) model: &'a str,
    pub(super) input_tokens: u64,
    /// The model refuses in an answer of its own (200).
    pub(super) refuses: bool,
    /// Words that were said before, and that a stream goes on with: they are input.
    pub(super) said: usize,
}

/// A stream in pieces: each text is one server-sent event.
pub(super) struct Stream {
    /// What comes before any content.
    pub(super) head: Vec<String>,
    /// One word each.
    pub(super) words: Vec<String>,
    /// The finish and the usage.
    pub(super) tail: Vec<String>,
    /// What says that the stream is over, where the format has that.
    pub(super) terminal: Option<String>,
    /// A piece that breaks off in the middle of its JSON.
    pub(super) malformed: String,
}

/// The nth word, from 0, with the space behind it.
fn word(index: usize) -> String {
    let space = if index + 1 < WORDS { " " } else { "" };
    format!("w{:02}{space}", index + 1)
}

/// The healthy answer's text.
fn text() -> String {
    (0..WORDS).map(word).collect()
}

/// An event without a name.
pub(super) fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn event(name: &str, value: &Value) -> String {
    format!("event: {name}\ndata: {value}\n\n")
}

impl Answer<'_> {
    /// The streamed answer.
    pub(super) fn stream(&self, usage_asked: bool) -> Stream {
        let mut stream = match self.api {
            Api::Chat => self.chat_stream(usage_asked),
            Api::Messages => self.messages_stream(),
            Api::Gemini => self.gemini_stream(),
            Api::Responses => self.responses_stream(),
        };
        if self.refuses {
            stream.words.truncate(1);
        }
        stream
    }

    /// The answer in one body.
    pub(super) fn whole(&self) -> Value {
        let text = if self.refuses { word(0) } else { text() };
        match self.api {
            Api::Chat => json!({
                "id": "chatcmpl-fault", "object": "chat.completion", "created": 1_700_000_000,
                "model": self.model,
                "choices": [{
                    "index": 0,
                    "message": { "role": "assistant", "content": text, "refusal": null },
                    "logprobs": null,
                    "finish_reason": if self.refuses { "content_filter" } else { "stop" },
                }],
                "usage": self.chat_usage(),
            }),
            Api::Messages => json!({
                "id": "msg_fault", "type": "message", "role": "assistant", "model": self.model,
                "content": [{ "type": "text", "text": text }],
                "stop_reason": if self.refuses { "refusal" } else { "end_turn" },
                "stop_sequence": null,
                "usage": { "input_tokens": self.input_tokens, "output_tokens": OUTPUT_TOKENS },
            }),
            Api::Gemini => {
                let reason = if self.refuses { "SAFETY" } else { "STOP" };
                self.gemini(&text, Some(reason), OUTPUT_TOKENS)
            }
            Api::Responses => self.response(Some(&text)),
        }
    }

    fn input(&self) -> u64 {
        self.input_tokens + self.said as u64
    }

    fn chat_usage(&self) -> Value {
        json!({
            "prompt_tokens": self.input(),
            "completion_tokens": OUTPUT_TOKENS - self.said,
            "total_tokens": self.input_tokens + OUTPUT_TOKENS as u64,
        })
    }

    fn chat_chunk(&self, delta: &Value, reason: Option<&str>) -> Value {
        json!({
            "id": "chatcmpl-fault", "object": "chat.completion.chunk", "created": 1_700_000_000,
            "model": self.model,
            "choices": [{ "index": 0, "delta": delta, "finish_reason": reason }],
        })
    }

    fn chat_stream(&self, usage_asked: bool) -> Stream {
        let content = |index| data(&self.chat_chunk(&json!({ "content": word(index) }), None));
        let reason = if self.refuses { "content_filter" } else { "stop" };
        let mut tail = vec![data(&self.chat_chunk(&json!({}), Some(reason)))];
        if usage_asked {
            let mut last = self.chat_chunk(&json!({}), None);
            last["choices"] = json!([]);
            last["usage"] = self.chat_usage();
            tail.push(data(&last));
        }
        let role = json!({ "role": "assistant", "content": "", "refusal": null });
        Stream {
            head: vec![data(&self.chat_chunk(&role, None))],
            words: (self.said..WORDS).map(content).collect(),
            tail,
            terminal: Some("data: [DONE]\n\n".to_owned()),
            malformed: "data: {\"id\":\"chatcmpl-fault\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"bro\n\n"
                .to_owned(),
        }
    }

    fn messages_stream(&self) -> Stream {
        let start = json!({ "type": "message_start", "message": {
            "id": "msg_fault", "type": "message", "role": "assistant", "model": self.model,
            "content": [], "stop_reason": null, "stop_sequence": null,
            "usage": { "input_tokens": self.input(), "output_tokens": 1 },
        }});
        let block = json!({ "type": "content_block_start", "index": 0,
            "content_block": { "type": "text", "text": "" } });
        let content = |index| {
            let delta = json!({ "type": "text_delta", "text": word(index) });
            let value = json!({ "type": "content_block_delta", "index": 0, "delta": delta });
            event("content_block_delta", &value)
        };
        let reason = if self.refuses { "refusal" } else { "end_turn" };
        let end = json!({ "type": "message_delta",
            "delta": { "stop_reason": reason, "stop_sequence": null },
            "usage": { "output_tokens": OUTPUT_TOKENS - self.said } });
        Stream {
            head: vec![
                event("message_start", &start),
                event("content_block_start", &block),
                event("ping", &json!({ "type": "ping" })),
            ],
            words: (self.said..WORDS).map(content).collect(),
            tail: vec![
                event("content_block_stop", &json!({ "type": "content_block_stop", "index": 0 })),
                event("message_delta", &end),
            ],
            terminal: Some(event("message_stop", &json!({ "type": "message_stop" }))),
            malformed: "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"bro\n\n"
                .to_owned(),
        }
    }

    fn gemini(&self, text: &str, reason: Option<&str>, output_tokens: usize) -> Value {
        let mut candidate = json!({
            "content": { "parts": [{ "text": text }], "role": "model" }, "index": 0,
        });
        if let Some(reason) = reason {
            candidate["finishReason"] = reason.into();
        }
        json!({
            "candidates": [candidate],
            "usageMetadata": {
                "promptTokenCount": self.input_tokens,
                "candidatesTokenCount": output_tokens,
                "totalTokenCount": self.input_tokens + output_tokens as u64,
            },
            "modelVersion": self.model,
            "responseId": "fault",
        })
    }

    /// What Gemini says of a prompt that it does not answer.
    pub(super) fn blocked(&self) -> Value {
        json!({
            "promptFeedback": { "blockReason": "SAFETY" },
            "usageMetadata": {
                "promptTokenCount": self.input_tokens, "totalTokenCount": self.input_tokens,
            },
            "modelVersion": self.model,
            "responseId": "fault",
        })
    }

    /// No head and no terminal event: the last chunk says why the answer ends.
    fn gemini_stream(&self) -> Stream {
        let content = |index| data(&self.gemini(&word(index), None, index + 1));
        let reason = if self.refuses { "SAFETY" } else { "STOP" };
        Stream {
            head: Vec::new(),
            words: (self.said..WORDS).map(content).collect(),
            tail: vec![data(&self.gemini("", Some(reason), OUTPUT_TOKENS))],
            terminal: None,
            malformed: "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"bro\n\n"
                .to_owned(),
        }
    }
}

/// The numbered events of a response.
struct Numbered(u64);

impl Numbered {
    fn event(&mut self, name: &str, mut value: Value) -> String {
        value["type"] = name.into();
        value["sequence_number"] = self.0.into();
        self.0 += 1;
        event(name, &value)
    }
}

impl Answer<'_> {
    /// The response object: at work without its text, else at its end.
    fn response(&self, text: Option<&str>) -> Value {
        let status = match (text, self.refuses) {
            (None, _) => "in_progress",
            (Some(_), true) => "incomplete",
            (Some(_), false) => "completed",
        };
        let usage = json!({
            "input_tokens": self.input_tokens, "input_tokens_details": { "cached_tokens": 0 },
            "output_tokens": OUTPUT_TOKENS, "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": self.input_tokens + OUTPUT_TOKENS as u64,
        });
        json!({
            "id": "resp_fault", "object": "response", "created_at": 1_700_000_000,
            "status": status, "model": self.model, "error": null,
            "incomplete_details":
                (status == "incomplete").then(|| json!({ "reason": "content_filter" })),
            "output": text.map(|text| vec![Self::message(status, text)]).unwrap_or_default(),
            // What no client but one of this provider knows.
            "fault": { "spaced": 1 },
            "usage": text.map(|_| usage),
        })
    }

    fn message(status: &str, text: &str) -> Value {
        json!({
            "type": "message", "id": "msg_fault", "status": status, "role": "assistant",
            "content": [{ "type": "output_text", "text": text, "annotations": [] }],
        })
    }

    fn responses_stream(&self) -> Stream {
        let mut numbered = Numbered(0);
        let mut item = Self::message("in_progress", "");
        item["content"] = json!([]);
        let place = || json!({ "item_id": "msg_fault", "output_index": 0, "content_index": 0 });
        let in_place = |name: &str, value: Value| {
            let mut placed = place();
            placed[name] = value;
            placed
        };
        let part = json!({ "type": "output_text", "text": "", "annotations": [] });
        let head = vec![
            numbered.event("response.created", json!({ "response": self.response(None) })),
            numbered.event("response.in_progress", json!({ "response": self.response(None) })),
            numbered
                .event("response.output_item.added", json!({ "output_index": 0, "item": item })),
            numbered.event("response.content_part.added", in_place("part", part)),
            // An event of which nobody here knows what it says.
            numbered.event("response.fault.noted", json!({ "note": 1e2 })),
        ];
        let said = if self.refuses { 0..1 } else { 0..WORDS };
        let words: Vec<String> = said
            .map(|index| {
                numbered.event("response.output_text.delta", in_place("delta", word(index).into()))
            })
            .collect();
        let text = if self.refuses { word(0) } else { text() };
        let whole = self.response(Some(&text));
        let tail = vec![
            numbered.event("response.output_text.done", in_place("text", text.as_str().into())),
            numbered.event(
                "response.output_item.done",
                json!({ "output_index": 0, "item": Self::message("completed", &text) }),
            ),
        ];
        let end = if self.refuses { "response.incomplete" } else { "response.completed" };
        Stream {
            head,
            words,
            tail,
            terminal: Some(numbered.event(end, json!({ "response": whole }))),
            malformed: "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"bro\n\n"
                .to_owned(),
        }
    }
}

/// The body of a refusal.
pub(super) fn refusal(api: Api, refusal: Refusal) -> Value {
    let message = message(api, refusal);
    match api {
        Api::Chat | Api::Responses => {
            let (kind, code) = match refusal {
                Refusal::RateLimited => ("requests", Some("rate_limit_exceeded")),
                Refusal::Failed | Refusal::Unavailable => ("server_error", None),
                Refusal::ContextLength => {
                    ("invalid_request_error", Some("context_length_exceeded"))
                }
                Refusal::ContentFilter => ("invalid_request_error", Some("content_filter")),
                Refusal::Prefill => ("invalid_request_error", None),
            };
            json!({ "error": { "message": message, "type": kind, "param": null, "code": code } })
        }
        Api::Messages => {
            let kind = match refusal {
                Refusal::RateLimited => "rate_limit_error",
                Refusal::Failed | Refusal::Unavailable => "api_error",
                Refusal::ContextLength | Refusal::ContentFilter | Refusal::Prefill => {
                    "invalid_request_error"
                }
            };
            json!({ "type": "error", "error": { "type": kind, "message": message },
                "request_id": "req_fault" })
        }
        Api::Gemini => {
            let status = match refusal {
                Refusal::RateLimited => "RESOURCE_EXHAUSTED",
                Refusal::Failed => "INTERNAL",
                Refusal::Unavailable => "UNAVAILABLE",
                Refusal::ContextLength | Refusal::ContentFilter | Refusal::Prefill => {
                    "INVALID_ARGUMENT"
                }
            };
            json!({ "error": { "code": refusal.status(), "message": message, "status": status } })
        }
    }
}

fn message(api: Api, refusal: Refusal) -> &'static str {
    match (refusal, api) {
        (Refusal::RateLimited, _) => "Rate limit reached",
        (Refusal::Failed, _) => "The server had an error while processing your request",
        (Refusal::Unavailable, _) => "The service is unavailable",
        (Refusal::ContextLength, Api::Chat | Api::Responses) => {
            "This model's maximum context length is 8192 tokens. Your messages have 12000 tokens."
        }
        (Refusal::ContextLength, Api::Messages) => {
            "prompt is too long: 12000 tokens > 8192 maximum"
        }
        (Refusal::ContextLength, Api::Gemini) => {
            "The input token count (12000) exceeds the maximum number of tokens allowed (8192)."
        }
        (Refusal::ContentFilter, Api::Messages) => "Output blocked by content filtering policy",
        (Refusal::ContentFilter, _) => "The prompt was refused by the content filter",
        (Refusal::Prefill, _) => "This model does not support assistant message prefill",
    }
}

/// An error inside an answer of status 200: an event of a stream, or a body.
pub(super) fn error_event(api: Api) -> String {
    let body = refusal(api, Refusal::Failed);
    match api {
        Api::Chat | Api::Gemini => data(&body),
        Api::Messages => event("error", &body),
        Api::Responses => {
            let mut flat = body["error"].clone();
            flat["type"] = "error".into();
            event("error", &flat)
        }
    }
}
