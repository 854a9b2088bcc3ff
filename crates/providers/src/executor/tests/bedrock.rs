//! Amazon Bedrock: signatures that another implementation finds right, streams of frames, errors
//! named in a header.

use bytes::BytesMut;
use sha2::{Digest, Sha256};
use testkit::Request;
use types::conversation::{Conversation, Message, Role as Speaker};
use types::format::WriteOptions;
use types::outcome::{Finish, Start};
use types::usage::Usage;

use super::*;
use crate::aws::Credentials;

const KEY_ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "IQoJb3JpZ2luX2VjEXAMPLE";
const MODEL: &str = "us.anthropic.claude-sonnet-4-6-v1:0";
/// 2015-08-30T12:36:00Z.
const NOW: Timestamp = Timestamp(1_440_938_160_000_000);
const USAGE: Usage = Usage {
    input_tokens: 30,
    cached_tokens: 10,
    cache_write_tokens: 5,
    cache_write_1h_tokens: 0,
    output_tokens: 20,
    reasoning_tokens: 0,
    more: types::usage::More {
        audio_input_tokens: 0,
        cached_audio_tokens: 0,
        image_input_tokens: 0,
        audio_output_tokens: 0,
        searches: 0,
        service_tier: types::ServiceTier::Standard,
    },
};

fn credentials(token: Option<&str>) -> Credentials {
    Credentials {
        access_key_id: Secret::new(KEY_ID),
        secret_access_key: Secret::new(SECRET),
        session_token: token.map(Secret::new),
    }
}

/// An attempt at Claude on Bedrock for a client of another format.
fn asked(stream: bool) -> Attempt {
    let body = format!(r#"{{"model":"p/m","stream":{stream},"messages":[]}}"#);
    let mut attempt = attempt_of(&formats::OPENAI_CHAT, &formats::BEDROCK_CONVERSE, &body);
    attempt.target =
        Arc::new(Target { upstream_model: MODEL.into(), ..Target::clone(&attempt.target) });
    let call = Arc::get_mut(&mut attempt.call).unwrap();
    if let CallKind::Model(model) = &mut call.kind {
        let conversation = Conversation {
            messages: vec![Message::text(Speaker::User, "café")],
            output_cap: Some(100),
            ..Conversation::default()
        };
        let head = model.head.clone();
        *model = ModelCall::from_neutral(&formats::OPENAI_CHAT, head, Arc::new(conversation));
    }
    attempt
}

/// What comes of a reply, and the request that it was given to.
async fn exchanged(
    token: Option<&str>,
    reply: Reply,
    stream: bool,
) -> (Request, Vec<OutcomeEvent>) {
    let server = ScriptedProvider::start([reply]).await.unwrap();
    let provider = Provider::new("p", "bedrock", Some(&server.base_url()), None).unwrap();
    let provider = provider.signed_by(credentials(token), Some("eu-west-1")).unwrap();
    let executor =
        executor(provider, Arc::new(FakeClock::new(NOW)), Vault::default(), &Limits::default());
    let events = all(&executor, asked(stream)).await;
    (server.requests().pop().unwrap(), events)
}

/// What Bedrock answers: `said`, as JSON or as frames.
fn answer(stream: bool, said: &[&str]) -> BytesMut {
    let options = WriteOptions {
        stream,
        include_usage: true,
        id: "x".to_owned(),
        model: "m".to_owned(),
        created: Timestamp(0),
    };
    let mut out = BytesMut::new();
    let mut writer = formats::BEDROCK_CONVERSE.writer(options);
    writer.start(&Start::default(), &mut out);
    for text in said {
        writer.delta(&Delta::Text { text: (*text).to_owned() }, &mut out);
    }
    writer.finish(&Finish { usage: Some(USAGE), ..Finish::default() }, "", &mut out).unwrap();
    out
}

fn json_reply() -> Reply {
    Reply::json(200, std::str::from_utf8(&answer(false, &["hi"])).unwrap())
}

/// The head of a stream of frames, whose end is the connection's.
fn frames_head() -> Reply {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\n\
                x-amzn-requestid: r1\r\nconnection: close\r\n\r\n";
    Reply::default().send(head.to_owned())
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// HMAC as RFC 2104 has it, for keys that fit into a block.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0u8; 64];
    block[..key.len()].copy_from_slice(key);
    let padded = |pad: u8| block.iter().map(|byte| byte ^ pad).collect::<Vec<u8>>();
    let inner = sha256(&[padded(0x36).as_slice(), text].concat());
    sha256(&[padded(0x5c).as_slice(), &inner].concat())
}

/// The signature that a server of Amazon's computes from what it received.
fn signature_of(request: &Request) -> String {
    let authorization = request.header("authorization").unwrap();
    let part = |name: &str| {
        let (_, rest) = authorization.split_once(name).unwrap();
        rest.split(", ").next().unwrap().to_owned()
    };
    let scope = part("Credential=").replacen(&format!("{KEY_ID}/"), "", 1);
    let names = part("SignedHeaders=");
    let lines: String = names
        .split(';')
        .map(|name| format!("{name}:{}\n", request.header(name).unwrap().trim()))
        .collect();
    let mut words = request.line.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap().replace('%', "%25"));
    let body = hex(&sha256(&request.body));
    let canonical = format!("{method}\n{path}\n\n{lines}\n{names}\n{body}");
    let date = request.header("x-amz-date").unwrap();
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&sha256(canonical.as_bytes())));
    let secret = format!("AWS4{SECRET}").into_bytes();
    // The secret is one key of the chain: it is shorter than a block.
    let key = scope.split('/').fold(secret, |key, part| hmac(&key, part.as_bytes()));
    hex(&hmac(&key, text.as_bytes()))
}

#[tokio::test]
async fn a_request_is_signed_so_that_amazon_finds_it_right() {
    for (token, stream) in [(None, false), (Some(TOKEN), true)] {
        let (request, _) = exchanged(token, json_reply(), stream).await;
        let method = if stream { "converse-stream" } else { "converse" };
        let path = "/v1/model/us.anthropic.claude-sonnet-4-6-v1%3A0";
        assert_eq!(request.line, format!("POST {path}/{method}"));
        let authorization = request.header("authorization").unwrap();
        assert!(authorization.starts_with(&format!(
            "AWS4-HMAC-SHA256 Credential={KEY_ID}/20150830/eu-west-1/bedrock/aws4_request, "
        )));
        assert!(authorization.ends_with(&format!("Signature={}", signature_of(&request))));
        assert_eq!(request.header("x-amz-security-token"), token);
        assert_eq!(request.header("x-amz-date"), Some("20150830T123600Z"));
        assert_eq!(request.json()["messages"][0]["content"][0]["text"], "café");
        assert_eq!(request.json()["inferenceConfig"]["maxTokens"], 100);
        let accepted =
            if stream { "application/vnd.amazon.eventstream" } else { "application/json" };
        assert_eq!(request.header("accept"), Some(accepted));
        assert!(!format!("{request:?}").contains(SECRET), "the secret itself is never sent");
    }
}

#[tokio::test]
async fn a_key_of_bedrocks_own_is_told_as_a_bearer() {
    let server = ScriptedProvider::start([json_reply()]).await.unwrap();
    let key = Some(Secret::new("bedrock-api-key-x"));
    let provider = Provider::new("p", "bedrock", Some(&server.base_url()), key).unwrap();
    let executor =
        executor(provider, Arc::new(FakeClock::new(NOW)), Vault::default(), &Limits::default());
    let events = all(&executor, asked(false)).await;
    assert_snapshot!(shown(&events), @r#"
    start 200
    delta Some(Text { text: "hi" })
    finish End Some((30, 20)) None None
    "#);
    let request = server.requests().pop().unwrap();
    assert_eq!(request.header("authorization"), Some("Bearer bedrock-api-key-x"));
    assert_eq!(request.header("x-amz-date"), None);
}

#[tokio::test]
async fn a_stream_of_frames_is_read() {
    let reply = frames_head().send(answer(true, &["h", "i"]).freeze()).close();
    let (_, events) = exchanged(None, reply, true).await;
    assert_snapshot!(shown(&events), @r#"
    start 200
    delta Some(Text { text: "h" })
    delta Some(Text { text: "i" })
    finish End Some((30, 20)) None None
    "#);
}

#[tokio::test]
async fn a_stream_that_is_cut_or_is_no_frames_is_a_failure() {
    let whole = answer(true, &["h", "i"]).freeze();
    // In the middle of the second piece.
    let cut = frames_head().send(whole.slice(..whole.len() / 3)).close();
    let (_, events) = exchanged(None, cut, true).await;
    assert_eq!(failure(&events).code, ErrorCode::StreamCut);
    assert_eq!(failure(&events).billed, Billed::Unknown);
    let mut flipped = whole.to_vec();
    flipped[20] ^= 1;
    let (_, events) = exchanged(None, frames_head().send(flipped).close(), true).await;
    assert_eq!(failure(&events).code, ErrorCode::UpstreamFailed);
    let (_, events) = exchanged(None, Reply::stream(&[]).event("{}").end(), true).await;
    assert!(failure(&events).message.contains("text/event-stream"), "{events:?}");
}

#[tokio::test]
async fn an_error_is_known_by_the_name_in_its_header() {
    let cases = [
        (400, "ServiceQuotaExceededException:http://x/", ErrorCode::UpstreamQuota),
        (400, "ValidationException", ErrorCode::InvalidRequest),
        (429, "ThrottlingException", ErrorCode::RateLimited),
        (429, "ModelNotReadyException", ErrorCode::Unavailable),
        (403, "ExpiredTokenException", ErrorCode::UpstreamCredentials),
        (424, "ModelErrorException", ErrorCode::UpstreamFailed),
    ];
    for (status, name, code) in cases {
        let headers = [("x-amzn-errortype", name), ("retry-after", "3")];
        let reply = Reply::with_body(status, "application/json", &headers, r#"{"message":"why"}"#);
        let (_, events) = exchanged(None, reply, false).await;
        let failure = failure(&events);
        assert_eq!(failure.code, code, "{name}");
        assert_eq!(failure.retry_after, Some(Duration::from_secs(3)), "{name}");
    }
}

#[tokio::test]
async fn nothing_of_the_credentials_reaches_a_client() {
    let said = format!("Credential={KEY_ID} token:{TOKEN} key:{SECRET}");
    let body = format!(r#"{{"message":"{said}"}}"#);
    for status in [400, 403, 429, 500] {
        let reply = Reply::with_body(status, "application/json", &[("request-id", TOKEN)], &body);
        let (_, events) = exchanged(Some(TOKEN), reply, false).await;
        let failure = failure(&events);
        let passed = failure.upstream.as_ref().map(|upstream| upstream.body.clone());
        let passed = String::from_utf8(passed.unwrap_or_default().to_vec()).unwrap();
        let told = format!("{events:?}{passed}");
        for secret in [KEY_ID, TOKEN, SECRET] {
            assert!(!told.contains(secret), "{status}: {told}");
        }
    }
}

#[test]
fn credentials_need_a_region_and_a_vendor_that_takes_them() {
    let made = |vendor: &str, url: &str, key: Option<&str>, region: Option<&str>| {
        let provider = Provider::new("p", vendor, Some(url), key.map(Secret::new)).unwrap();
        provider.signed_by(credentials(None), region).map(|_| ()).map_err(|error| error.to_string())
    };
    let amazon = "https://bedrock-runtime.eu-west-1.amazonaws.com";
    assert_eq!(made("bedrock", amazon, None, None), Ok(()));
    assert_eq!(made("bedrock", amazon, None, Some("Not a region")), Ok(()), "the host says it");
    assert_eq!(made("bedrock", "http://127.0.0.1:1", None, Some("us-east-1")), Ok(()));
    let refused = |made: Result<(), String>| made.unwrap_err();
    assert!(refused(made("bedrock", "http://127.0.0.1:1", None, None)).contains("region"));
    assert!(refused(made("bedrock", "http://x", None, Some("Not a region"))).contains("region"));
    assert!(refused(made("bedrock", amazon, Some("k"), None)).contains("choose one"));
    assert!(refused(made("openai", amazon, None, None)).contains("vendor"));
    let provider = Provider::new("p", "bedrock", Some(amazon), None).unwrap();
    let provider = provider.signed_by(credentials(Some(TOKEN)), None).unwrap();
    let shown = format!("{provider:?}");
    assert!([KEY_ID, SECRET, TOKEN].iter().all(|secret| !shown.contains(secret)), "{shown}");
    let form = crate::vendor("bedrock").unwrap().base_url_in("eu-west-1");
    assert_eq!(form.as_deref(), Some(amazon));
    assert_eq!(crate::vendor("azure").unwrap().base_url_in("eu-west-1"), None);
}
