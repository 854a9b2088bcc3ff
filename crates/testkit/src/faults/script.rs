//! What a request meets: its fault as steps of a connection.
//!
//! Values in, values out: time and state come in as arguments. The sixteen faults are those by
//! which gateways are compared (failoverbench's catalogue, in our words); the `x` ones were seen in
//! the wild.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::answers::{Answer, Api, Refusal, Stream, data, error_event, refusal};

/// Words before a cut, and before a stall or a broken piece.
const WORDS_BEFORE_CUT: usize = 40;
const WORDS_BEFORE_TROUBLE: usize = 20;
/// What a rate-limited client is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// How long a slow model thinks, a stream stalls, and an outage lasts.
const FIRST_TOKEN: Duration = Duration::from_secs(20);
const STALL: Duration = Duration::from_secs(30);
const OUTAGE: Duration = Duration::from_secs(60);
/// Input tokens that the two providers count: bills tell whose answer it was.
const INPUT_PRIMARY: u64 = 12;
const INPUT_FALLBACK: u64 = 14;

/// A fault, as named by what stands before the `-` of a model's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `s01`: one 429 that says when to come back.
    RateLimitedOnce,
    /// `s02`: 429 always, without a time.
    RateLimitedAlways,
    /// `s03`: one 500.
    FailsOnce,
    /// `s04`, `s16`: 503 always.
    Unavailable,
    /// `s05`: one reset before any answer.
    ResetOnce,
    /// `s06`: never answers.
    Silent,
    /// `s07`: the first token comes late.
    Late,
    /// `s08`, `s14`: the connection closes in the middle of the answer.
    Cut,
    /// `s08e`: the answer ends in the middle, in order.
    EndsEarly,
    /// `s09`: the answer stalls in its middle.
    Stalls,
    /// `s10`: a piece that can't be read, in the middle.
    Malformed,
    /// `s10h`: the same before any content.
    MalformedFirst,
    /// `s11`: everything but the terminal event.
    NoTerminal,
    /// `s12`: the prompt is too long for the model.
    ContextLength,
    /// `s13`: the provider refuses the content.
    ContentFilter,
    /// `s13r`: the model refuses in an answer of its own.
    Refuses,
    /// `s15`: an outage that ends.
    Outage,
    /// `x01`: an error in the place of an answer, with status 200.
    ErrorInside,
    /// `x02`: an error behind some content.
    ErrorBehind,
    /// `x03`: an error behind the head of a stream and before its content.
    ErrorBefore,
    /// `x04`: as `s08`, where the fallback goes on with words that are put into its mouth.
    CutThenContinued,
    /// `x05`: the same behind the last word, so that the fallback has no more to say.
    CutAtTheEnd,
}

/// What the names of models may begin with that are taken to go on with such words.
const FAMILY: &str = "claude-haiku-4-5-";

impl Fault {
    /// The fault of a model's name, if it has one.
    pub fn of(model: &str) -> Option<Self> {
        let model = model.strip_prefix(FAMILY).unwrap_or(model);
        Some(match model.split_once('-')?.0 {
            "s01" => Self::RateLimitedOnce,
            "s02" => Self::RateLimitedAlways,
            "s03" => Self::FailsOnce,
            "s04" | "s16" => Self::Unavailable,
            "s05" => Self::ResetOnce,
            "s06" => Self::Silent,
            "s07" => Self::Late,
            "s08" | "s14" => Self::Cut,
            "s08e" => Self::EndsEarly,
            "s09" => Self::Stalls,
            "s10" => Self::Malformed,
            "s10h" => Self::MalformedFirst,
            "s11" => Self::NoTerminal,
            "s12" => Self::ContextLength,
            "s13" => Self::ContentFilter,
            "s13r" => Self::Refuses,
            "s15" => Self::Outage,
            "x01" => Self::ErrorInside,
            "x02" => Self::ErrorBehind,
            "x03" => Self::ErrorBefore,
            "x04" => Self::CutThenContinued,
            "x05" => Self::CutAtTheEnd,
            _ => return None,
        })
    }
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Primary,
    Fallback,
}

impl Role {
    /// Its name in paths and in the log.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Fallback => "fallback",
        }
    }
}

/// A request, as far as an answer depends on it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) role: Role,
    pub(super) api: Api,
    pub(super) model: String,
    pub(super) stream: bool,
    /// A chat stream is to say its usage.
    pub(super) usage_asked: bool,
    /// The conversation ends with the assistant's words.
    pub(super) prefilled: bool,
    /// How many.
    pub(super) said: usize,
}

/// What came of a model's fault before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    /// Requests for it before this one.
    pub(super) requests: u64,
    /// Time since the first of them, unscaled.
    pub(super) since_first: Duration,
}

/// What a connection does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Send(Bytes),
    /// Waits for this long, unscaled.
    Wait(Duration),
    /// Waits until the client goes.
    Hang,
    Close,
    Reset,
}

/// A whole answer, or what is left of one.
#[derive(Clone, Debug)]
pub(super) struct Script {
    /// 0 = no head is sent.
    pub(super) status: u16,
    pub(super) steps: Vec<Step>,
}

/// What the request meets. `scale` is what durations are multiplied by, for what is told to
/// clients.
pub(super) fn script(asked: &Asked, before: Before, scale: f64) -> Script {
    let fault = Fault::of(&asked.model);
    let Some(fault) = fault.filter(|_| asked.role == Role::Primary) else {
        return at_fallback(asked, fault);
    };
    let first = before.requests == 0;
    let plainly = |why| refused(asked.api, why, None);
    match fault {
        Fault::RateLimitedOnce if first => {
            let seconds = RETRY_AFTER.mul_f64(scale).as_secs_f64();
            refused(asked.api, Refusal::RateLimited, Some(seconds))
        }
        Fault::RateLimitedAlways => plainly(Refusal::RateLimited),
        Fault::FailsOnce if first => plainly(Refusal::Failed),
        Fault::Unavailable => plainly(Refusal::Unavailable),
        Fault::Outage if before.since_first < OUTAGE => plainly(Refusal::Unavailable),
        Fault::ContextLength => plainly(Refusal::ContextLength),
        Fault::ContentFilter if asked.api == Api::Gemini => blocked(asked),
        Fault::ContentFilter => plainly(Refusal::ContentFilter),
        Fault::ResetOnce if first => Script { status: 0, steps: vec![Step::Reset] },
        Fault::Silent => Script { status: 0, steps: vec![Step::Hang] },
        Fault::RateLimitedOnce | Fault::FailsOnce | Fault::ResetOnce | Fault::Outage => {
            healthy(asked)
        }
        _ if asked.stream => in_stream(asked, fault),
        _ => in_body(asked, fault),
    }
}

/// The fallback is well. Only a prefill is refused, and only where that is the fault.
fn at_fallback(asked: &Asked, fault: Option<Fault>) -> Script {
    if matches!(fault, Some(Fault::CutThenContinued | Fault::CutAtTheEnd)) {
        return healthy(asked);
    }
    let asked = &Asked { said: 0, ..asked.clone() };
    if fault.is_some() && asked.role == Role::Fallback && asked.prefilled {
        return refused(asked.api, Refusal::Prefill, None);
    }
    healthy(asked)
}

fn answer(asked: &Asked, refuses: bool) -> Answer<'_> {
    let input_tokens = match asked.role {
        Role::Primary => INPUT_PRIMARY,
        Role::Fallback => INPUT_FALLBACK,
    };
    // The primary does not know how to go on.
    let said = if asked.role == Role::Fallback { asked.said } else { 0 };
    Answer { api: asked.api, model: &asked.model, input_tokens, refuses, said }
}

/// Sixty words, and the usage.
fn healthy(asked: &Asked) -> Script {
    if asked.stream {
        let stream = answer(asked, false).stream(asked.usage_asked);
        let steps = [stream.head, stream.words, stream.tail, stream.terminal.into_iter().collect()];
        let steps = steps.concat().iter().map(|event| chunk(event)).collect();
        streamed(steps, true)
    } else {
        json(200, &answer(asked, false).whole(), None)
    }
}

/// Gemini's way to refuse a prompt: an answer without an answer.
fn blocked(asked: &Asked) -> Script {
    let body = answer(asked, true).blocked();
    if asked.stream { streamed(vec![chunk(&data(&body))], true) } else { json(200, &body, None) }
}

/// A fault of a stream.
fn in_stream(asked: &Asked, fault: Fault) -> Script {
    let Stream { head, mut words, mut tail, mut terminal, malformed } =
        answer(asked, fault == Fault::Refuses).stream(asked.usage_asked);
    let error = error_event(asked.api);
    let mut ends = true;
    let mut steps: Vec<Step> = Vec::new();
    match fault {
        Fault::MalformedFirst => steps.push(chunk(&malformed)),
        Fault::ErrorInside => return streamed(vec![chunk(&error)], true),
        _ => steps.extend(head.iter().map(|event| chunk(event))),
    }
    match fault {
        Fault::ErrorBefore => return streamed([steps, vec![chunk(&error)]].concat(), true),
        Fault::Late => steps.push(Step::Wait(FIRST_TOKEN)),
        Fault::Cut | Fault::CutThenContinued | Fault::EndsEarly => {
            words.truncate(WORDS_BEFORE_CUT);
            (tail, terminal) = (Vec::new(), None);
            ends = fault == Fault::EndsEarly;
        }
        Fault::CutAtTheEnd => (tail, terminal, ends) = (Vec::new(), None, false),
        Fault::ErrorBehind => {
            words.truncate(WORDS_BEFORE_TROUBLE);
            (tail, terminal) = (vec![error], None);
        }
        Fault::Malformed => words.insert(WORDS_BEFORE_TROUBLE, malformed),
        Fault::NoTerminal => terminal = None,
        _ => {}
    }
    for (index, event) in words.iter().enumerate() {
        if fault == Fault::Stalls && index == WORDS_BEFORE_TROUBLE {
            steps.push(Step::Wait(STALL));
        }
        steps.push(chunk(event));
    }
    steps.extend(tail.iter().chain(&terminal).map(|event| chunk(event)));
    streamed(steps, ends)
}

/// The same fault of an answer in one body.
fn in_body(asked: &Asked, fault: Fault) -> Script {
    let whole = answer(asked, fault == Fault::Refuses).whole();
    let text = whole.to_string();
    let half = text.len() / 2;
    let head = |length: usize| Step::Send(head(200, &json_headers(length, None)).into());
    let (begin, rest) = text.split_at(half);
    let begin = Step::Send(begin.to_owned().into());
    let rest = Step::Send(rest.to_owned().into());
    let steps = match fault {
        Fault::Late => {
            return Script {
                steps: [vec![Step::Wait(FIRST_TOKEN)], json(200, &whole, None).steps].concat(),
                status: 200,
            };
        }
        Fault::Cut | Fault::CutThenContinued | Fault::CutAtTheEnd => {
            vec![head(text.len()), begin, Step::Close]
        }
        Fault::Stalls => vec![head(text.len()), begin, Step::Wait(STALL), rest],
        Fault::Malformed | Fault::MalformedFirst | Fault::EndsEarly => vec![head(half), begin],
        Fault::ErrorInside | Fault::ErrorBehind | Fault::ErrorBefore => {
            return json(200, &refusal(asked.api, Refusal::Failed), None);
        }
        _ => return json(200, &whole, None),
    };
    Script { status: 200, steps }
}

fn refused(api: Api, why: Refusal, retry_after: Option<f64>) -> Script {
    json(why.status(), &refusal(api, why), retry_after)
}

fn json(status: u16, body: &Value, retry_after: Option<f64>) -> Script {
    let text = body.to_string();
    let head = head(status, &json_headers(text.len(), retry_after));
    Script { status, steps: vec![Step::Send((head + &text).into())] }
}

fn json_headers(length: usize, retry_after: Option<f64>) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        ("content-type", "application/json".to_owned()),
        ("content-length", length.to_string()),
    ];
    headers.extend(retry_after.map(|seconds| ("retry-after", seconds.to_string())));
    headers
}

/// A chunked stream. One that has no end is cut.
fn streamed(steps: Vec<Step>, ends: bool) -> Script {
    let headers = [
        ("content-type", "text/event-stream; charset=utf-8".to_owned()),
        ("transfer-encoding", "chunked".to_owned()),
    ];
    let mut all = vec![Step::Send(head(200, &headers).into())];
    all.extend(steps);
    all.push(if ends { Step::Send(Bytes::from_static(b"0\r\n\r\n")) } else { Step::Close });
    Script { status: 200, steps: all }
}

fn chunk(text: &str) -> Step {
    Step::Send(format!("{:x}\r\n{text}\r\n", text.len()).into())
}

fn head(status: u16, headers: &[(&str, String)]) -> String {
    let lines = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    format!("HTTP/1.1 {status} Fault\r\n{}\r\n", lines.collect::<String>())
}

#[cfg(test)]
mod tests;
