//! What an answer says, read from its events: the text, the calls and the end.
//!
//! Bytes that pass through are read once more, by their own format, so that a client gets them as
//! they came. It must not know what is asked of an answer.

use std::collections::VecDeque;

use types::format::ReadOptions;
use types::outcome::{Delta, Finish};
use types::{Format, OutcomeEvent, Stop};

/// A tool call, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ToolCalled {
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// What an answer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) calls: Vec<ToolCalled>,
    /// It has a refusal in it.
    pub(crate) refuses: bool,
    pub(crate) stop: Stop,
    pub(crate) mean_logprob_micros: Option<i64>,
}

impl Said {
    /// Reads a whole answer; `None` if it can't be read again.
    ///
    /// What passed through is in the `format` of its request.
    pub(crate) fn read(
        events: &VecDeque<OutcomeEvent>,
        format: Option<&'static dyn Format>,
        stream: bool,
    ) -> Option<Self> {
        let mut said = Self::default();
        let options = ReadOptions { stream, decode: true, ..ReadOptions::default() };
        let mut reader = None;
        let mut again = VecDeque::new();
        for event in events {
            match event {
                OutcomeEvent::Frame { raw: Some(raw), delta: None } => {
                    let format = format?;
                    let reader = reader.get_or_insert_with(|| format.reader(options));
                    reader.push(raw.clone(), &mut again);
                    said.take_all(&mut again)?;
                }
                OutcomeEvent::Frame { delta, .. } => {
                    delta.iter().for_each(|delta| said.take(delta));
                }
                OutcomeEvent::Finish(finish) => {
                    if let (Some(reader), Some(raw)) = (&mut reader, &finish.raw) {
                        reader.push(raw.clone(), &mut again);
                    }
                    said.finish(finish);
                }
                OutcomeEvent::Start(_) => {}
                OutcomeEvent::Failed(_) => return None,
            }
        }
        if let Some(reader) = &mut reader {
            reader.end(&mut again);
        }
        said.take_all(&mut again)?;
        Some(said)
    }

    /// Takes what was read of bytes; `None` if that failed.
    fn take_all(&mut self, events: &mut VecDeque<OutcomeEvent>) -> Option<()> {
        for event in events.drain(..) {
            match event {
                OutcomeEvent::Frame { delta, .. } => {
                    delta.iter().for_each(|delta| self.take(delta));
                }
                OutcomeEvent::Finish(finish) => self.finish(&finish),
                OutcomeEvent::Start(_) => {}
                OutcomeEvent::Failed(_) => return None,
            }
        }
        Some(())
    }

    /// Takes what an event says that came with its delta.
    pub(crate) fn see(&mut self, event: &OutcomeEvent) {
        if let OutcomeEvent::Frame { delta: Some(delta), .. } = event {
            self.take(delta);
        }
    }

    fn finish(&mut self, finish: &Finish) {
        self.stop = finish.stop;
        self.mean_logprob_micros = self.mean_logprob_micros.or(finish.mean_logprob_micros);
    }

    fn take(&mut self, delta: &Delta) {
        match delta {
            Delta::Text { text } => self.text.push_str(text),
            Delta::Refusal { .. } => self.refuses = true,
            Delta::ToolCallStart { index, name, .. } => self.call(*index).name.clone_from(name),
            Delta::ToolCallArguments { index, json } => self.call(*index).arguments.push_str(json),
            Delta::Reasoning { .. }
            | Delta::ReasoningSignature { .. }
            | Delta::ToolResult { .. } => {}
        }
    }

    /// The call at this place: places have no gaps.
    fn call(&mut self, index: u32) -> &mut ToolCalled {
        let index = usize::try_from(index).unwrap_or(usize::MAX).min(self.calls.len());
        if index == self.calls.len() {
            self.calls.push(ToolCalled::default());
        }
        &mut self.calls[index]
    }
}

/// Bytes that an event is held with.
pub(crate) fn bytes_of(event: &OutcomeEvent) -> usize {
    match event {
        OutcomeEvent::Frame { raw: Some(raw), .. } => raw.len(),
        OutcomeEvent::Frame { delta: Some(delta), .. } => match delta {
            Delta::Text { text } | Delta::Reasoning { text } | Delta::Refusal { text } => {
                text.len()
            }
            Delta::ReasoningSignature { signature, .. } => signature.len(),
            Delta::ToolCallStart { id, name, .. } => id.len() + name.len(),
            Delta::ToolCallArguments { json, .. } => json.len(),
            Delta::ToolResult { text, .. } => text.len(),
        },
        OutcomeEvent::Frame { raw: None, delta: None }
        | OutcomeEvent::Start(_)
        | OutcomeEvent::Finish(_)
        | OutcomeEvent::Failed(_) => 0,
    }
}
