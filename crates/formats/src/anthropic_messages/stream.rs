//! Answers, both ways.

use std::collections::VecDeque;

use ::types::Failure;
use ::types::format::{ReadOptions, ReadResponse, WriteOptions, WriteResponse};
use ::types::ids::CallId;
use ::types::outcome::{Delta, Finish, OutcomeEvent, Start};
use bytes::{Bytes, BytesMut};

pub(crate) struct Reader;

impl Reader {
    pub(crate) fn new(_options: ReadOptions) -> Self {
        Self
    }
}

impl ReadResponse for Reader {
    fn push(&mut self, _chunk: Bytes, _events: &mut VecDeque<OutcomeEvent>) {}
    fn end(&mut self, events: &mut VecDeque<OutcomeEvent>) {
        let failure = Failure::unsupported("model", "the Messages API is not offered yet");
        events.push_back(OutcomeEvent::Failed(Box::new(failure)));
    }
}

pub(crate) struct Writer;

impl Writer {
    pub(crate) fn new(_options: &WriteOptions) -> Self {
        Self
    }
}

impl WriteResponse for Writer {
    fn start(&mut self, _start: &Start, _out: &mut BytesMut) {}
    fn delta(&mut self, _delta: &Delta, _out: &mut BytesMut) {}
    fn finish(&mut self, _finish: &Finish, _comment: &str, _out: &mut BytesMut) {}
    fn fail(&mut self, _failure: &Failure, _call: &CallId, _out: &mut BytesMut) {}
}
