//! A stream for a client from neutral deltas: a chunk per piece, and one with the end.

use ::types::Failure;
use ::types::format::{Begun, WriteOptions, WriteResponse};
use ::types::ids::CallId;
use ::types::outcome::{Delta, Finish, Start};
use bytes::BytesMut;

use crate::gemini::errors;
use crate::gemini::response::parts::{Part, Parts};
use crate::gemini::response::{Ending, chunk};
use crate::sse;

/// Writes a stream.
pub(crate) struct Writer {
    options: WriteOptions,
    parts: Parts,
}

impl Writer {
    pub(crate) fn new(options: WriteOptions) -> Self {
        Self { options, parts: Parts::default() }
    }
}

impl WriteResponse for Writer {
    fn start(&mut self, _start: &Start, _out: &mut BytesMut) {}

    fn delta(&mut self, delta: &Delta, out: &mut BytesMut) {
        let options = &self.options;
        let mut write = |part: Part| {
            let chunk = chunk(&[part], ",\"index\":0", "", options);
            sse::write_data(chunk.as_bytes(), out);
        };
        self.parts.take(delta, &mut write);
    }

    fn go_on(&mut self, begun: &Begun) {
        let Begun { id, model, .. } = begun;
        id.iter().for_each(|id| self.options.id.clone_from(id));
        model.iter().for_each(|model| self.options.model.clone_from(model));
    }

    fn finish(
        &mut self,
        finish: &Finish,
        _comment: &str,
        out: &mut BytesMut,
    ) -> Result<(), Failure> {
        let mut last = Vec::new();
        self.parts.finish(finish.stop, &mut |part| last.push(part))?;
        let ending = Ending { finish, options: &self.options };
        sse::write_data(ending.chunk(&last).as_bytes(), out);
        Ok(())
    }

    fn fail(&mut self, failure: &Failure, call: &CallId, out: &mut BytesMut) {
        sse::write_data(&errors::render(failure, Some(call)), out);
    }
}
