//! A response that is not stored: one plain Call through the pipeline, rendered as it comes.
//!
//! There is no session, no journal and no task: the answer's stream *is* the Call, so a client that goes cancels it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use formats::openai_responses::EventWriter;
use futures_util::StreamExt;
use futures_util::stream;
use pipeline::{Answer, Bill};
use serde_json::Value;
use types::clock::SharedClock;
use types::ids::{CallId, SessionId};
use types::outcome::Finish;
use types::{ErrorCode, Failure, OutcomeEvent, Stop};

use crate::live::{KEEPALIVE, keepalive, stream_event};
use crate::{EventStream, StreamEvent};

/// A Call that is not stored.
#[derive(Debug)]
pub(crate) struct Plain {
    /// Taken by whoever reads the answer.
    run: Mutex<Option<Run>>,
    session: Option<SessionId>,
    bill: Arc<Mutex<Bill>>,
    snapshot: Value,
}

/// The running answer.
#[derive(Debug)]
struct Run {
    answer: Answer,
    writer: EventWriter,
    clock: SharedClock,
    call: CallId,
    buffer: VecDeque<Value>,
    bill: Arc<Mutex<Bill>>,
    ended: bool,
    failure: Option<Failure>,
}

impl Plain {
    pub(crate) fn new(answer: Answer, mut writer: EventWriter, clock: SharedClock) -> Self {
        let (call, session) = (answer.call.id.clone(), answer.call.session.clone());
        let bill = Arc::new(Mutex::new(answer.bill()));
        let mut buffer = VecDeque::from(writer.created());
        buffer.extend(writer.in_progress());
        let snapshot = writer.response();
        let run = Run {
            answer,
            writer,
            clock,
            call,
            buffer,
            bill: Arc::clone(&bill),
            ended: false,
            failure: None,
        };
        Self { run: Mutex::new(Some(run)), session, bill, snapshot }
    }

    pub(crate) const fn session(&self) -> Option<&SessionId> {
        self.session.as_ref()
    }

    pub(crate) fn bill(&self) -> Bill {
        self.bill.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn snapshot(&self) -> Value {
        self.snapshot.clone()
    }

    fn take(&self) -> Option<Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn stream(&self) -> EventStream {
        stream::unfold(self.take(), |run| async move {
            let mut run = run?;
            let event = run.event().await?;
            Some((event, Some(run)))
        })
        .boxed()
    }

    pub(crate) async fn wait(&self) -> Result<Value, Failure> {
        let gone = || Failure::new(ErrorCode::Internal, "the answer was read before");
        let mut run = self.take().ok_or_else(gone)?;
        let mut last = None;
        while let Some(event) = run.next().await {
            last = Some(event);
        }
        match (run.failure, last.and_then(|mut event| event.get_mut("response").map(Value::take))) {
            (Some(failure), _) => Err(failure),
            (None, Some(response)) => Ok(response),
            (None, None) => Err(gone()),
        }
    }
}

impl Run {
    /// The next event, or a keepalive.
    async fn event(&mut self) -> Option<StreamEvent> {
        let clock = Arc::clone(&self.clock);
        tokio::select! {
            biased;
            event = self.next() => event.map(|event| stream_event(&event)),
            () = clock.sleep(KEEPALIVE) => Some(keepalive()),
        }
    }

    /// The next event. Dropping this future loses nothing.
    async fn next(&mut self) -> Option<Value> {
        while self.buffer.is_empty() && !self.ended {
            let event = self.answer.next().await;
            let events = self.written(event);
            self.buffer.extend(events);
            *self.bill.lock().unwrap_or_else(PoisonError::into_inner) = self.answer.bill();
        }
        self.buffer.pop_front()
    }

    fn written(&mut self, event: Option<OutcomeEvent>) -> Vec<Value> {
        match event {
            Some(OutcomeEvent::Start(_)) => Vec::new(),
            Some(OutcomeEvent::Frame { delta, .. }) => {
                delta.map(|delta| self.writer.delta(&delta)).unwrap_or_default()
            }
            Some(OutcomeEvent::Finish(finish)) => self.finished(&finish),
            Some(OutcomeEvent::Failed(failure)) => self.failed(*failure),
            None => {
                let message = "the answer ended before it was whole";
                self.failed(Failure::new(ErrorCode::StreamCut, message))
            }
        }
    }

    fn finished(&mut self, finish: &Finish) -> Vec<Value> {
        self.ended = true;
        let mut events = self.writer.close_open_item();
        if self.writer.next_output_index() == 0 {
            events.extend(self.writer.open_message());
            events.extend(self.writer.close_open_item());
        }
        events.extend(match finish.stop {
            Stop::End | Stop::ToolCalls => self.writer.completed(finish.usage, self.clock.now()),
            Stop::Length => self.writer.incomplete("max_output_tokens", finish.usage),
            Stop::ContentFilter => self.writer.incomplete("content_filter", finish.usage),
        });
        events
    }

    fn failed(&mut self, failure: Failure) -> Vec<Value> {
        self.ended = true;
        let events = self.writer.failed(&failure, Some(&self.call), None);
        self.failure = Some(failure);
        events
    }
}
