//! One call of a tool, from the request to what is known of it afterwards.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rmcp::RoleClient;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientNotification, ClientRequest, ContentBlock,
    CustomNotification, PingRequest, ServerResult,
};
use rmcp::service::{PeerRequestOptions, RequestHandle, ServiceError};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use types::call::ToolInvocation;
use types::clock::{Clock, Monotonic, SharedClock, within};
use types::error::Billed;
use types::outcome::{Delta, Finish, OutcomeEvent, OutcomeStream, Start};
use types::{Call, ErrorCode, Failure, Principal};

use super::process::{InUse, Process, failed};
use super::{CALL_TIMEOUT_DEFAULT, CANCEL_GRACE, RESULT_BYTES_MAX, Shared, ToolServer};
use crate::stop;

/// Where the idempotency key stands in a request's `_meta`.
const IDEMPOTENCY_KEY: &str = "dev.holdfast/idempotency-key";
/// Processes that a request is sent to at most, each having ended before it could be sent.
const SENDS_MAX: u32 = 3;
/// What is said of a call that can't be waited for.
const NOT_SENT: &str = "was not sent";
/// A connection that is ended tells whoever waits within this time.
const END_NOTICED_WITHIN: Duration = Duration::from_secs(2);
/// What is waited at most for a call without a deadline; its server's own limits are shorter.
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The answer of one call as the pipeline reads it. Dropping it before its end tells the server
/// that the call is cancelled, and whether it had an effect is not known.
pub(super) fn stream(
    shared: Arc<Shared>,
    server: Arc<ToolServer>,
    call: Arc<Call>,
    invocation: ToolInvocation,
) -> OutcomeStream {
    let answered = async move {
        let whose = (&*call.principal, call.deadline);
        let events = match run(&shared, &server, whose, invocation).await {
            Ok((delta, finish)) => vec![
                OutcomeEvent::Start(Start { status: 200, ..Start::default() }),
                OutcomeEvent::Frame { raw: None, delta: Some(delta) },
                OutcomeEvent::Finish(finish),
            ],
            Err(failure) => vec![OutcomeEvent::Failed(Box::new(failure))],
        };
        futures_util::stream::iter(events)
    };
    Box::pin(futures_util::FutureExt::flatten_stream(answered))
}

pub(super) async fn run(
    shared: &Arc<Shared>,
    server: &Arc<ToolServer>,
    (principal, deadline): (&Principal, Option<Monotonic>),
    invocation: ToolInvocation,
) -> Result<(Delta, Finish), Failure> {
    let cancelled = CancellationToken::new();
    let key = invocation.idempotency_key.clone();
    let _registered = Registered::new(shared, key, cancelled.clone());
    let tool = invocation.tool.clone();
    let request = request(invocation)?;
    for _ in 0..SENDS_MAX {
        let process = shared.process(server, &principal.account, &principal.user);
        let left = time_left(&*shared.clock, deadline);
        let Some(in_use) = within(&*shared.clock, left, process).await else {
            let message = "the call's time was over before it was sent";
            return Err(Failure::new(ErrorCode::UpstreamTimeout, message));
        };
        let in_use = in_use?;
        if cancelled.is_cancelled() {
            let message = "the call was cancelled before it was sent";
            return Err(Failure::new(ErrorCode::Cancelled, message));
        }
        let Some(mut flight) = send(shared, in_use, request.clone()).await else { continue };
        if let Some(answer) = flight.answer(server, &tool, deadline, &cancelled).await {
            return answer;
        }
    }
    Err(failed(&server.name, "is gone"))
}

/// Hands the request to the server's process; `None` if that has ended, and has not seen it.
async fn send(shared: &Arc<Shared>, in_use: InUse, request: ClientRequest) -> Option<Flight> {
    let process = Arc::clone(&in_use.process);
    let (bytes_before, messages_before) = (process.tally.bytes(), *process.written.borrow());
    let options = PeerRequestOptions::no_options();
    let Ok(handle) = process.peer().send_cancellable_request(request, options).await else {
        // Nobody can reach it any more, whether it has ended or only closed its pipe.
        process.ended.cancel();
        return None;
    };
    let flight = Flight { shared: Arc::clone(shared), handle: Some(handle), in_use, bytes_before };
    if stop::wants(stop::Point::ToolRunning) {
        // The request is written by another task: stop only when it has left this process.
        let mut written = process.written.clone();
        if written.wait_for(|count| *count > messages_before).await.is_ok() {
            stop::at(stop::Point::ToolRunning);
        }
    }
    Some(flight)
}

fn request(invocation: ToolInvocation) -> Result<ClientRequest, Failure> {
    let arguments = match invocation.arguments {
        Value::Object(arguments) => arguments,
        Value::Null => serde_json::Map::new(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err(Failure::invalid("arguments", "a tool's arguments must be a JSON object"));
        }
    };
    let mut params = CallToolRequestParams::new(invocation.tool).with_arguments(arguments);
    let mut meta = rmcp::model::RequestMetaObject::new();
    meta.0.insert(IDEMPOTENCY_KEY.to_owned(), Value::String(invocation.idempotency_key));
    params.meta = Some(meta);
    Ok(ClientRequest::CallToolRequest(CallToolRequest::new(params)))
}

/// A call that was sent. Dropping it tells the server that it is cancelled, if it has not answered.
struct Flight {
    shared: Arc<Shared>,
    handle: Option<RequestHandle<RoleClient>>,
    in_use: InUse,
    /// What the server had been sent before it.
    bytes_before: u64,
}

impl Flight {
    /// What became of it; `None` if it never left, because the process had ended.
    async fn answer(
        &mut self,
        server: &ToolServer,
        tool: &str,
        deadline: Option<Monotonic>,
        cancelled: &CancellationToken,
    ) -> Option<Result<(Delta, Finish), Failure>> {
        let Some(handle) = self.handle.as_mut() else { return Some(Err(lost(tool, NOT_SENT))) };
        let timeout = server.timeout.unwrap_or(CALL_TIMEOUT_DEFAULT);
        let left = time_left(&*self.shared.clock, deadline);
        let ended = self.in_use.process.ended.clone();
        let answer = tokio::select! {
            biased;
            answer = &mut handle.rx => answer.unwrap_or(Err(ServiceError::TransportClosed)),
            // The connection's end is told to whoever waits; only then is nothing written any more.
            () = ended.cancelled() => {
                let told = within(&*self.shared.clock, END_NOTICED_WITHIN, &mut handle.rx).await;
                told.and_then(Result::ok).unwrap_or(Err(ServiceError::TransportClosed))
            }
            () = cancelled.cancelled() => return Some(self.cancel(tool).await),
            () = self.shared.clock.sleep(timeout.min(left)) => {
                let process = Arc::clone(&self.in_use.process);
                let clock = Arc::clone(&self.shared.clock);
                self.shared.tracker.spawn(end_if_hung(process, clock));
                let message = match left < timeout {
                    true => "did not answer before the call's time was over".to_owned(),
                    false => format!("did not answer within {} s", timeout.as_secs()),
                };
                let failure = lost(tool, &message);
                return Some(Err(Failure { code: ErrorCode::UpstreamTimeout, ..failure }));
            }
        };
        self.handle = None;
        let is_gone =
            matches!(answer, Err(ServiceError::TransportClosed | ServiceError::TransportSend(_)));
        (!(is_gone && self.never_left())).then(|| known(tool, answer))
    }

    /// Ends a process whose connection is gone, and says that this request is not known to it.
    fn never_left(&self) -> bool {
        let process = &self.in_use.process;
        // A node that stops starts no process: whoever asked finds an open step, and decides anew.
        let may_go_on = !self.shared.shutdown.is_cancelled();
        let sent = process.tally.seal();
        process.ended.cancel();
        may_go_on && sent == self.bytes_before
    }

    /// Tells the server, and gives it [`CANCEL_GRACE`] to say what became of the call.
    async fn cancel(&mut self, tool: &str) -> Result<(Delta, Finish), Failure> {
        let Some(mut handle) = self.handle.take() else { return Err(lost(tool, NOT_SENT)) };
        // A server that reads nothing can't even be told: that counts against its time too.
        let told = async {
            notify_cancelled(&handle).await;
            (&mut handle.rx).await
        };
        match within(&*self.shared.clock, CANCEL_GRACE, told).await {
            Some(Ok(answer)) => known(tool, answer),
            Some(Err(_)) | None => Err(lost(tool, "was cancelled and did not say what it did")),
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            let task = async move { notify_cancelled(&handle).await };
            self.shared.tracker.spawn(task);
        }
    }
}

/// Tells a server that a call is cancelled.
///
/// As a notification of no known kind: on its own one the library would forget the request, and
/// with it what the server still says about what became of the call.
async fn notify_cancelled(handle: &RequestHandle<RoleClient>) {
    let params = serde_json::json!({
        "requestId": handle.id,
        "reason": "cancelled by the client",
    });
    let notification = CustomNotification::new("notifications/cancelled", Some(params));
    let notification = ClientNotification::CustomNotification(notification);
    if let Err(error) = handle.peer.send_notification(notification).await {
        tracing::debug!(%error, "a tool server could not be told of a cancelled call");
    }
}

/// How long a call may still take; what has no deadline is limited by its server's timeout alone.
fn time_left(clock: &dyn Clock, deadline: Option<Monotonic>) -> Duration {
    let left = deadline.map(|deadline| deadline.saturating_sub(clock.monotonic()));
    left.unwrap_or(TIME_MAX)
}

/// A server that does not even answer a ping is ended, so that the next call gets a fresh one.
async fn end_if_hung(process: Arc<Process>, clock: SharedClock) {
    let ping = ClientRequest::PingRequest(PingRequest::default());
    let answer = within(&*clock, CANCEL_GRACE, process.peer().send_request(ping)).await;
    if !matches!(answer, Some(Ok(_))) {
        process.ended.cancel();
    }
}

fn known(
    tool: &str,
    answer: Result<ServerResult, ServiceError>,
) -> Result<(Delta, Finish), Failure> {
    match answer {
        Ok(ServerResult::CallToolResult(result)) => {
            let text = text_of(&result);
            let is_error = result.is_error == Some(true);
            let raw = serde_json::to_value(&result).unwrap_or(Value::Null);
            Ok((Delta::ToolResult { text, is_error, raw }, Finish::default()))
        }
        // The server refused the call in the protocol's own words: that is an answer, not a lost
        // one.
        Err(ServiceError::McpError(error)) => {
            let text = cut(error.message.into_owned());
            let raw = serde_json::json!({ "error": { "code": error.code.0, "message": text } });
            Ok((Delta::ToolResult { text, is_error: true, raw }, Finish::default()))
        }
        Ok(_) => Err(lost(tool, "was answered with something that is no tool result")),
        Err(error) => {
            tracing::warn!(tool, %error, "the answer of a tool call was lost");
            Err(lost(tool, "was cut off: its server ended or closed the connection"))
        }
    }
}

/// The code with which a server refused a call in the protocol's own words, if `raw` (of a
/// [`Delta::ToolResult`]) is such a refusal.
pub(crate) fn refusal_code(raw: &Value) -> Option<i32> {
    let code = raw.get("error")?.get("code")?.as_i64()?;
    i32::try_from(code).ok()
}

/// The call was sent, and what became of it is not known.
fn lost(tool: &str, what: &str) -> Failure {
    Failure::new(ErrorCode::ToolFailed, format!("the call of the tool {tool:?} {what}"))
        .billed(Billed::Unknown)
}

fn text_of(result: &rmcp::model::CallToolResult) -> String {
    let texts: Vec<String> = result.content.iter().map(block_text).collect();
    let mut text = texts.join("\n");
    if let (true, Some(structured)) = (text.is_empty(), &result.structured_content) {
        text = structured.to_string();
    }
    cut(text)
}

/// A text as long as it may be in the conversation.
fn cut(mut text: String) -> String {
    if text.len() > RESULT_BYTES_MAX {
        let end = (0..=RESULT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push_str("\n[cut: the tool answered with more than 1 MiB]");
    }
    text
}

fn block_text(block: &ContentBlock) -> String {
    match block.as_text() {
        Some(text) => text.text.clone(),
        // What is no text is handed over as its JSON rather than left out silently.
        None => serde_json::to_string(block).unwrap_or_default(),
    }
}

/// A call that can be cancelled by its idempotency key while this lives.
struct Registered {
    shared: Arc<Shared>,
    key: String,
}

impl Registered {
    fn new(shared: &Arc<Shared>, key: String, token: CancellationToken) -> Self {
        let mut running = shared.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.insert(key.clone(), token);
        drop(running);
        Self { shared: Arc::clone(shared), key }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.shared.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
