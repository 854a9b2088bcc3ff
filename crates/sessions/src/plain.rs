//! A response that is not stored: one plain Call through the pipeline, rendered as it comes.
//!
//! There is no session, no journal and no task: the answer's stream *is* the Call, so a client that
//! goes cancels it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use formats::openai_responses::{
    EventWriter, OPENAI_RESPONSES, ResponseSkeleton, ids_of, items_to_messages,
};
use futures_util::StreamExt;
use futures_util::stream;
use pipeline::{Answer, Bill};
use serde_json::Value;
use types::call::{Credential, Door, ModelCall, ModelHead};
use types::clock::SharedClock;
use types::ids::{CallId, SessionId};
use types::outcome::{Delta, Finish};
use types::{CallKind, ErrorCode, Failure, Incoming, OutcomeEvent, Stop};

use crate::answer::Turn;
use crate::history::Hold;
use crate::live::{KEEPALIVE, keepalive, stream_event};
use crate::open::Asked;
use crate::turn::{Growth, bytes_of, media_in};
use crate::{EventStream, Inner, StreamEvent};

impl Inner {
    /// A response that is not stored: one plain Call.
    pub(crate) async fn plain(self: &Arc<Self>, mut asked: Asked) -> Result<Turn, Failure> {
        let mut before = self.before(&asked).await?;
        self.refuse_unfinished(&before).await?;
        let input = self.input(&mut asked, &mut before).await?;
        let hold = self.room_for(&asked, &before)?;
        let mut items = before.items;
        items.extend(input);
        let conversation = asked.request.conversation(items_to_messages(&items)?);
        let head = ModelHead {
            model: asked.request.model.clone(),
            stream: asked.request.stream,
            output_cap: asked.request.max_output_tokens,
            choices: 1,
            include_usage: true,
            body_bytes: bytes_of(&conversation)?,
            media: media_in(&conversation),
            ..ModelHead::default()
        };
        let session_name = asked.post.headers.session_name.clone();
        let incoming = Incoming {
            credential: Credential::Known(Arc::clone(&asked.principal)),
            door: Door::OpenaiResponses,
            headers: asked.post.headers,
            step: None,
            parent: None,
            id: Some(asked.call.clone()),
            kind: CallKind::Model(ModelCall::from_neutral(
                &OPENAI_RESPONSES,
                head,
                Arc::new(conversation),
            )),
        };
        let answer = self.parts.pipeline.run(incoming).await.map_err(|refused| refused.failure)?;
        if let Some(name) = session_name {
            self.note_named(&answer.call.principal, &name);
        }
        let id = self.response_id();
        let now = self.parts.clock.now();
        let skeleton = ResponseSkeleton::new(id.as_str(), now, &asked.request);
        let writer = EventWriter::new(skeleton, ids_of(Arc::clone(&self.parts.ids)), 0, 0);
        let plain = Plain::new(answer, writer, Arc::clone(&self.parts.clock), hold);
        Ok(Turn::plain(id, asked.call, plain))
    }
}

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
    /// The conversation is in memory while the Call runs, and what it says.
    growth: Growth,
}

impl Plain {
    pub(crate) fn new(
        answer: Answer,
        mut writer: EventWriter,
        clock: SharedClock,
        hold: Hold,
    ) -> Self {
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
            growth: Growth::new(hold),
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
            Some(OutcomeEvent::Start(start)) => {
                self.writer.dropped(&start.dropped);
                Vec::new()
            }
            Some(OutcomeEvent::Frame { delta, .. }) => {
                delta.map(|delta| self.said(&delta)).unwrap_or_default()
            }
            Some(OutcomeEvent::Finish(finish)) => self.finished(&finish),
            Some(OutcomeEvent::Failed(failure)) => self.failed(*failure),
            None => {
                let message = "the answer ended before it was whole";
                self.failed(Failure::new(ErrorCode::StreamCut, message))
            }
        }
    }

    /// What a piece of the answer becomes. An answer that is too long is ended, and its Call with
    /// it, since nobody reads it any more.
    fn said(&mut self, delta: &Delta) -> Vec<Value> {
        match self.growth.add(delta) {
            Ok(()) => self.writer.delta(delta),
            Err(failure) => self.failed(failure),
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
