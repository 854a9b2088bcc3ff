//! An answer in this format from neutral events, without a session behind it.
//!
//! [`EventWriter`] makes the events; here they become bytes, or, where nothing is streamed, one
//! response object at the end.

use ::types::Failure;
use ::types::clock::Timestamp;
use ::types::format::{WriteOptions, WriteResponse};
use ::types::ids::CallId;
use ::types::outcome::{Delta, Finish, Start, Stop};
use bytes::{BufMut, BytesMut};
use serde_json::Value;

use super::{EventWriter, NewId, keepalive_event, write_frame};
use crate::openai_responses::request::plain;
use crate::openai_responses::response::ResponseSkeleton;
use crate::sse;

/// Writes an answer in this format from neutral events, without a session behind it.
pub(in crate::openai_responses) struct Writer {
    events: EventWriter,
    stream: bool,
    created: Timestamp,
}

impl Writer {
    pub(in crate::openai_responses) fn new(options: WriteOptions) -> Self {
        let request = plain(&options.model);
        let skeleton = ResponseSkeleton::new(&options.id, options.created, &request);
        let mut made = 0u64;
        let id = options.id;
        let new_id: NewId = Box::new(move |prefix| {
            made += 1;
            format!("{prefix}{}{made:04x}", id.trim_start_matches("resp_"))
        });
        Self {
            events: EventWriter::new(skeleton, new_id, 0, 0),
            stream: options.stream,
            created: options.created,
        }
    }

    fn write(&self, events: &[Value], out: &mut BytesMut) {
        if self.stream {
            events.iter().for_each(|event| write_frame(event, out));
        }
    }

    fn write_end(&self, events: &[Value], comment: &str, out: &mut BytesMut) {
        let Some((last, before)) = events.split_last() else { return };
        self.write(before, out);
        if self.stream {
            sse::write_comment(comment, out);
            write_frame(last, out);
            sse::write_data(b"[DONE]", out);
        } else if let Some(response) = last.get("response") {
            out.put_slice(response.to_string().as_bytes());
        }
    }
}

impl WriteResponse for Writer {
    fn start(&mut self, _start: &Start, out: &mut BytesMut) {
        let mut events = self.events.created();
        events.extend(self.events.in_progress());
        self.write(&events, out);
    }

    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        let events = self.events.delta(delta);
        self.write(&events, out);
    }

    fn keep_alive(&mut self, out: &mut BytesMut) {
        // Before `response.created` it would break the SDKs' helpers.
        if self.events.next_sequence() > 0 {
            self.write(&[keepalive_event()], out);
        }
    }

    fn finish(
        &mut self,
        finish: &Finish,
        comment: &str,
        out: &mut BytesMut,
    ) -> Result<(), Failure> {
        let mut events = self.events.close_open_item();
        events.extend(match finish.stop {
            Stop::End | Stop::ToolCalls => self.events.completed(finish.usage, self.created),
            Stop::Length => self.events.incomplete("max_output_tokens", finish.usage),
            Stop::ContentFilter => self.events.incomplete("content_filter", finish.usage),
        });
        self.write_end(&events, comment, out);
        Ok(())
    }

    fn fail(&mut self, failure: &Failure, call: &CallId, out: &mut BytesMut) {
        let events = self.events.failed(failure, Some(call), None);
        self.write_end(&events, "", out);
    }
}
