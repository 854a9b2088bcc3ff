//! Answers in one piece: read from an upstream or written for a client.
//!
//! The reader passes the body on as it came, in one frame, and reads the usage, the reason why the
//! model stopped and the model's version out of it; it is taken apart only where deltas are wanted.
//! The writer collects deltas and writes the body at the end.

pub(crate) mod answer;
pub(crate) mod parts;

use ::types::Failure;
use ::types::call::Operation;
use ::types::format::{ReadOptions, WriteOptions, WriteResponse};
use ::types::ids::CallId;
use ::types::outcome::{Delta, Finish, Start};
use bytes::{BufMut, BytesMut};
use serde::Deserialize;

use self::answer::{Answer, Chunk, usage_object};
use self::parts::{Part, Parts};
use super::errors;
use crate::whole;

/// Reads a whole body: an answer, or a count.
pub(crate) fn read_body(
    body: &[u8],
    options: &ReadOptions,
) -> Result<(Vec<Delta>, Finish), Failure> {
    match options.operation {
        Operation::CountTokens => Ok((Vec::new(), read_count(body)?)),
        Operation::Chat | Operation::Embed => read_answer(body, options.decode),
    }
}

/// The failure of a body that is not what was asked for.
fn no_answer(body: &[u8], error: Option<&serde_json::Error>, what: &str) -> Failure {
    whole::no_answer(error, what, || errors::parse_in_answer(body))
}

#[derive(Deserialize)]
struct Count {
    #[serde(rename = "totalTokens")]
    _total_tokens: u64,
}

/// Counting costs nothing, so that there is no usage.
fn read_count(body: &[u8]) -> Result<Finish, Failure> {
    match serde_json::from_slice::<Count>(body) {
        Ok(_) => Ok(Finish::default()),
        Err(error) => Err(no_answer(body, Some(&error), "count of tokens")),
    }
}

fn read_answer(body: &[u8], decode: bool) -> Result<(Vec<Delta>, Finish), Failure> {
    let chunk: Chunk<'_> = match serde_json::from_slice(body) {
        Ok(chunk) => chunk,
        Err(error) => return Err(no_answer(body, Some(&error), "answer")),
    };
    if !chunk.is_answer() {
        return Err(no_answer(body, None, "answer"));
    }
    let (mut answer, mut deltas) = (Answer::new(decode), Vec::new());
    answer.take(chunk, &mut deltas)?;
    let finish = answer.finish()?;
    Ok((deltas, finish))
}

/// Writes a JSON answer at its end.
pub(crate) struct Writer {
    options: WriteOptions,
    parts: Parts,
    said: Vec<Part>,
}

impl Writer {
    pub(crate) fn new(options: WriteOptions) -> Self {
        Self { options, parts: Parts::default(), said: Vec::new() }
    }
}

impl WriteResponse for Writer {
    fn start(&mut self, _start: &Start, _out: &mut BytesMut) {}

    fn delta(&mut self, delta: &Delta, _out: &mut BytesMut) {
        let said = &mut self.said;
        self.parts.take(delta, &mut |part| parts::join(said, part));
    }

    fn finish(
        &mut self,
        finish: &Finish,
        _comment: &str,
        out: &mut BytesMut,
    ) -> Result<(), Failure> {
        let said = &mut self.said;
        self.parts.finish(finish.stop, &mut |part| parts::join(said, part))?;
        let ending = Ending { finish, options: &self.options };
        out.put_slice(ending.chunk(&self.said).as_bytes());
        Ok(())
    }

    fn fail(&mut self, failure: &Failure, call: &CallId, out: &mut BytesMut) {
        out.put_slice(&errors::render(failure, Some(call)));
    }
}

/// The end of an answer that is written.
pub(crate) struct Ending<'a> {
    pub(crate) finish: &'a Finish,
    pub(crate) options: &'a WriteOptions,
}

impl Ending<'_> {
    /// The last chunk, or the whole answer, with these parts.
    pub(crate) fn chunk(&self, said: &[Part]) -> String {
        let reason = answer::reason_of(self.finish.stop);
        let usage = self.finish.usage.as_ref().map(usage_object);
        let usage = usage.map(|usage| format!(",\"usageMetadata\":{usage}")).unwrap_or_default();
        let beside = format!(",\"finishReason\":\"{reason}\",\"index\":0");
        chunk(said, &beside, &usage, self.options)
    }
}

/// A chunk with these parts. `beside` and `behind` are more fields of the candidate and of the
/// chunk, with a comma in front.
pub(crate) fn chunk(said: &[Part], beside: &str, behind: &str, options: &WriteOptions) -> String {
    let mut content = String::new();
    for part in said {
        content.push_str(if content.is_empty() { "" } else { "," });
        content.push_str(&part.json());
    }
    if content.is_empty() {
        // A turn without a part is no turn to SDKs, which forget it.
        content.push_str(r#"{"text":""}"#);
    }
    let (model, id) = (parts::quoted(&options.model), parts::quoted(&options.id));
    format!(
        "{{\"candidates\":[{{\"content\":{{\"parts\":[{content}],\"role\":\"model\"}}{beside}}}]\
         {behind},\"modelVersion\":{model},\"responseId\":{id}}}"
    )
}

#[cfg(test)]
mod tests;
