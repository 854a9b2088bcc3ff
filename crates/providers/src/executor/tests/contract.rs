//! What holds for every row of the catalogue: each is held against a server that takes and answers
//! what the row's quirks say. A new row is tested by being there.

use bytes::BytesMut;
use serde_json::{Value, json};
use testkit::Request;
use types::conversation::{Conversation, Message, Part, Role as Speaker, ToolCall, ToolDefinition};
use types::format::{Quirks, WriteOptions};
use types::outcome::{Finish, Start};
use types::usage::Usage;

use super::*;
use crate::vendor::{Auth, Vendor, vendors};

const USAGE: Usage = Usage {
    input_tokens: 30,
    cached_tokens: 10,
    cache_write_tokens: 0,
    cache_write_1h_tokens: 0,
    output_tokens: 20,
    reasoning_tokens: 5,
    more: types::usage::More {
        audio_input_tokens: 0,
        cached_audio_tokens: 0,
        image_input_tokens: 0,
        audio_output_tokens: 0,
        searches: 0,
        service_tier: types::ServiceTier::Standard,
    },
};
const LONG_ID: &str = "call_0fypS1hVXnlnrrJha";

/// A history with everything that rows differ in.
fn history() -> Conversation {
    let call = |id: &str| {
        let (id, arguments) = (id.to_owned(), r#"{"n":1}"#.to_owned());
        Part::ToolCall(ToolCall { id, name: "find".to_owned(), arguments })
    };
    let results = ["one", LONG_ID].map(|id| Part::tool_result(id, "found", false));
    let thought = vec![Part::reasoning("hm"), Part::text("so"), call(LONG_ID), call("one")];
    let mut conversation = Conversation {
        messages: vec![
            Message::text(Speaker::Developer, "be brief"),
            Message::text(Speaker::User, "go"),
            Message { role: Speaker::Assistant, parts: thought },
            Message { role: Speaker::Tool, parts: results.to_vec() },
        ],
        tools: vec![ToolDefinition {
            name: "find".to_owned(),
            description: None,
            parameters: Some(json!({ "type": "object" })),
            strict: None,
        }],
        output_cap: Some(100),
        ..Conversation::default()
    };
    conversation.sampling.seed = Some(7);
    conversation.sampling.top_k = Some(5);
    conversation.sampling.frequency_penalty = Some(0.5);
    conversation
}

/// An attempt at a target of the row's format, with a request that is in no format yet.
fn rendered(vendor: &Vendor, conversation: Conversation, stream: bool) -> Attempt {
    let body = format!(r#"{{"model":"p/m","stream":{stream},"messages":[]}}"#);
    let is_begun = conversation.messages.last().is_some_and(|last| last.role == Speaker::Assistant);
    let mut attempt = attempt_of(&formats::OPENAI_CHAT, vendor.format(), &body);
    let call = Arc::get_mut(&mut attempt.call).unwrap();
    if let CallKind::Model(model) = &mut call.kind {
        let head = model.head.clone();
        *model = ModelCall::from_neutral(&formats::OPENAI_CHAT, head, Arc::new(conversation));
    }
    attempt.decode = true;
    attempt.continues = is_begun;
    attempt
}

/// What the row's server answers: a thought and a text.
fn answer(vendor: &Vendor, stream: bool) -> Vec<u8> {
    let mut out = BytesMut::new();
    let options = WriteOptions {
        stream,
        include_usage: true,
        id: "x1".to_owned(),
        model: "m-2".to_owned(),
        created: Timestamp(0),
    };
    let mut writer = vendor.format().writer(options);
    writer.start(&Start::default(), &mut out);
    writer.delta(&Delta::Reasoning { text: "hm".to_owned() }, &mut out);
    writer.delta(&Delta::Text { text: "hi".to_owned() }, &mut out);
    let finish = Finish { usage: Some(USAGE), ..Finish::default() };
    writer.finish(&finish, "", &mut out).unwrap();
    let Ok(mut text) = String::from_utf8(out.to_vec()) else {
        // Frames are no text, and have no quirks.
        return out.to_vec();
    };
    let quirks = &vendor.quirks;
    if let Some(field) = &quirks.reasoning_field {
        text = text.replace("reasoning_content", field);
    }
    if quirks.no_done {
        text = text.replace("data: [DONE]\n\n", "");
    }
    text.into_bytes()
}

fn reply(vendor: &Vendor, stream: bool) -> Reply {
    let answer = answer(vendor, stream);
    if stream {
        return streamed(vendor, &answer);
    }
    Reply::json(200, std::str::from_utf8(&answer).unwrap())
}

/// A stream in the row's format that ends with its connection.
fn streamed(vendor: &Vendor, bytes: &[u8]) -> Reply {
    let kind = vendor.format().stream_type();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n");
    Reply::default().send(head).send(bytes.to_vec()).close()
}

async fn asked(
    vendor: &Vendor,
    reply: Reply,
    attempt: Attempt,
) -> (Option<Request>, Vec<OutcomeEvent>) {
    let server = ScriptedProvider::start([reply]).await.unwrap();
    let key = (vendor.auth != Auth::None).then(|| Secret::new("sk-secret"));
    let provider = Provider::new("p", &vendor.name, Some(&server.base_url()), key).unwrap();
    let events = all(
        &executor(provider, Arc::new(SystemClock::new()), Vault::default(), &Limits::default()),
        attempt,
    )
    .await;
    (server.requests().pop(), events)
}

/// What the row's server would refuse.
fn complaints(quirks: &Quirks, body: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            complaints.push(what.to_owned());
        }
    };
    let has = |name: &str| body.get(name).is_some();
    must(has("max_tokens") == quirks.old_output_cap, "max_tokens");
    must(has("max_completion_tokens") != quirks.old_output_cap, "max_completion_tokens");
    let streams = body["stream"] == true;
    must(has("stream_options") == (streams && !quirks.no_stream_options), "stream_options");
    for field in quirks.drops.iter().chain(&quirks.refuses) {
        must(!has(field), field);
    }
    let messages = body["messages"].as_array().unwrap();
    let first = if quirks.no_developer_role { "system" } else { "developer" };
    must(messages[0]["role"] == first, "role");
    let said = &messages[2];
    for field in ["reasoning", "reasoning_content"] {
        let own = quirks.reasoning_field.as_deref() == Some(field);
        must(said.get(field).is_some_and(|text| text == "hm") == own, field);
    }
    let ids = [0, 1].map(|at| said["tool_calls"][at]["id"].as_str().unwrap());
    let short = |id: &str| id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    must(ids.into_iter().all(short) == quirks.short_call_ids, "tool_calls.id");
    let answered = [4, 3].map(|at: usize| messages[at]["tool_call_id"].as_str().unwrap());
    must(ids == answered, "tool_call_id");
    complaints
}

fn text_of(events: &[OutcomeEvent]) -> (String, String) {
    let (mut thought, mut text) = (String::new(), String::new());
    for event in events {
        match event {
            OutcomeEvent::Frame { delta: Some(Delta::Reasoning { text }), .. } => {
                thought.push_str(text);
            }
            OutcomeEvent::Frame { delta: Some(Delta::Text { text: piece }), .. } => {
                text.push_str(piece);
            }
            _ => {}
        }
    }
    (thought, text)
}

/// Whether the request told the row's key as the row says, and nothing else.
fn tells_the_key(vendor: &Vendor, request: &Request) {
    let key = match vendor.auth {
        Auth::Bearer | Auth::Aws => Some(("authorization", "Bearer sk-secret")),
        Auth::XApiKey => Some(("x-api-key", "sk-secret")),
        Auth::XGoogApiKey => Some(("x-goog-api-key", "sk-secret")),
        Auth::ApiKey => Some(("api-key", "sk-secret")),
        Auth::None => None,
    };
    for header in ["authorization", "x-api-key", "x-goog-api-key", "api-key"] {
        let wanted = key.filter(|(own, _)| *own == header).map(|(_, value)| value);
        assert_eq!(request.header(header), wanted, "{}", vendor.name);
    }
    for header in vendor.headers.keys() {
        assert!(request.header(header).is_some(), "{}: {header}", vendor.name);
    }
}

/// Whether what the row's server does not take was reported, and nothing else was.
fn reports_what_it_drops(vendor: &Vendor, events: &[OutcomeEvent]) {
    let OutcomeEvent::Start(start) = &events[0] else { panic!("{}", vendor.name) };
    for field in ["seed", "top_k", "frequency_penalty"] {
        let dropped = vendor.quirks.drops.iter().any(|name| name == field);
        let reported = start.dropped.iter().any(|name| name == field);
        assert_eq!(reported, dropped, "{}: {field}", vendor.name);
    }
}

#[tokio::test]
async fn every_row_is_asked_as_it_takes_it() {
    for (vendor, stream) in vendors().iter().flat_map(|vendor| [(vendor, false), (vendor, true)]) {
        let attempt = rendered(vendor, history(), stream);
        let (request, events) = asked(vendor, reply(vendor, stream), attempt).await;
        let name = &vendor.name;
        let request = request.unwrap_or_else(|| panic!("{name}: {}", shown(&events)));
        assert!(request.line.starts_with("POST /v1/"), "{name}: {}", request.line);
        tells_the_key(vendor, &request);
        if vendor.format().name() == "openai_chat" {
            let complaints = complaints(&vendor.quirks, &request.json());
            assert!(complaints.is_empty(), "{name}: {complaints:?} in {}", request.json());
            reports_what_it_drops(vendor, &events);
        }
    }
}

#[tokio::test]
async fn the_rest_of_an_answer_is_asked_for_where_the_row_says() {
    let begun = Conversation {
        messages: vec![
            Message::text(Speaker::User, "say something"),
            Message::text(Speaker::Assistant, "so"),
        ],
        ..Conversation::default()
    };
    for vendor in vendors().iter().filter(|vendor| vendor.continues) {
        let own = vendor.quirks.prefix_path.as_deref();
        for continues in [true, false] {
            let mut attempt = rendered(vendor, begun.clone(), false);
            attempt.continues = continues;
            let (request, _) = asked(vendor, reply(vendor, false), attempt).await;
            let path = own.filter(|_| continues).unwrap_or("/v1/chat/completions");
            let line = format!("POST {path}");
            assert_eq!(request.unwrap().line, line, "{}: {continues}", vendor.name);
        }
    }
}

#[tokio::test]
async fn every_row_is_understood() {
    for vendor in vendors() {
        for stream in [false, true] {
            let attempt = rendered(vendor, history(), stream);
            let (_, events) = asked(vendor, reply(vendor, stream), attempt).await;
            let name = &vendor.name;
            let Some(OutcomeEvent::Finish(finish)) = events.last() else {
                panic!("{name} {stream}: {}", shown(&events))
            };
            assert_eq!(text_of(&events), ("hm".to_owned(), "hi".to_owned()), "{name} {stream}");
            let usage = finish.usage.unwrap_or_else(|| panic!("{name} {stream}: no usage"));
            assert_eq!((usage.input_tokens, usage.output_tokens), (30, 20), "{name} {stream}");
        }
    }
}

#[tokio::test]
async fn no_row_makes_a_cut_stream_look_whole() {
    for vendor in vendors() {
        let whole = answer(vendor, true);
        let cut = whole.windows(2).position(|two| two == b"hi").unwrap() + 2;
        let reply = streamed(vendor, &whole[..cut]);
        let (_, events) = asked(vendor, reply, rendered(vendor, history(), true)).await;
        let failure = failure(&events);
        assert_eq!(
            (failure.code, failure.billed.clone()),
            (ErrorCode::StreamCut, Billed::Unknown),
            "{}",
            vendor.name
        );
    }
}

#[tokio::test]
async fn a_row_refuses_what_its_server_would_answer_otherwise() {
    for vendor in vendors() {
        for field in &vendor.quirks.refuses {
            let mut asking = history();
            match field.as_str() {
                "tool_choice" => asking.tool_choice = types::conversation::ToolChoice::Required,
                "n" => drop(asking.rest.insert("n".to_owned(), 2.into())),
                other => drop(asking.rest.insert(other.to_owned(), json!({}))),
            }
            let attempt = rendered(vendor, asking, false);
            let (request, events) = asked(vendor, reply(vendor, false), attempt).await;
            let failure = failure(&events);
            assert_eq!(failure.code, ErrorCode::Unsupported, "{}: {field}", vendor.name);
            assert_eq!(failure.param.as_deref(), Some(field.as_str()), "{}", vendor.name);
            assert!(request.is_none(), "{}: it was asked all the same", vendor.name);
        }
    }
}

#[tokio::test]
async fn a_request_in_the_rows_own_format_keeps_its_bytes() {
    const BODY: &str = r#"{"model":"p/m",  "max_completion_tokens": 9, "messages":[{"role":"developer","content":"caf\u00e9"}], "seed":1e0,"stream":true}"#;
    let chat = vendors().iter().filter(|vendor| vendor.format().name() == "openai_chat");
    for vendor in chat {
        let attempt = attempt_of(&formats::OPENAI_CHAT, &formats::OPENAI_CHAT, BODY);
        let (request, events) = asked(vendor, reply(vendor, true), attempt).await;
        let quirks = &vendor.quirks;
        let mut wanted = BODY.replace("p/m", "m");
        if quirks.old_output_cap {
            wanted = wanted.replace("max_completion_tokens", "max_tokens");
        }
        if !quirks.no_stream_options {
            wanted.insert_str(1, r#""stream_options":{"include_usage":true},"#);
        }
        assert_eq!(request.unwrap().body, wanted, "{}", vendor.name);
        assert!(matches!(events.last(), Some(OutcomeEvent::Finish(_))), "{}", vendor.name);
    }
}

#[tokio::test]
async fn no_row_is_told_a_key_that_its_operator_did_not_set() {
    for vendor in vendors() {
        let server = ScriptedProvider::start([reply(vendor, false)]).await.unwrap();
        let provider = Provider::new("p", &vendor.name, Some(&server.base_url()), None).unwrap();
        let executor =
            executor(provider, Arc::new(SystemClock::new()), Vault::default(), &Limits::default());
        all(&executor, rendered(vendor, history(), false)).await;
        let request = server.requests().pop().unwrap();
        for header in ["authorization", "x-api-key", "x-goog-api-key", "api-key"] {
            assert_eq!(request.header(header), None, "{}", vendor.name);
        }
    }
}
