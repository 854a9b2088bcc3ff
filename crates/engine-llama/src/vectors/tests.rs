//! What goes into a batch, who fails with it, and what is seen between a long text's parts.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use engine::protocol::unpack;
use types::clock::{FakeClock, Monotonic, Timestamp};

use super::*;
use crate::job::Place;

/// A batch with this token is refused.
const REFUSED: Token = -1;
/// It makes all numbers of its batch NaN.
const NOT_FINITE: Token = -2;

type Hook = Box<dyn FnMut(usize)>;

/// Writes down what each batch holds, as the first token of each text; does something before.
struct Fake {
    batches: Rc<RefCell<Vec<Vec<Token>>>>,
    pooling: Pooling,
    before: Hook,
}

impl Compute for Fake {
    fn room(&self) -> usize {
        BATCH_TOKENS as usize
    }

    fn pooling(&self) -> Pooling {
        self.pooling
    }

    fn batch(&mut self, texts: &[&[Token]], begin: usize) -> Result<Vec<Vec<f32>>, llama::Error> {
        (self.before)(begin);
        let tokens: usize = texts.iter().map(|text| text.len()).sum();
        assert!(tokens <= self.room() && texts.len() <= SEQUENCES as usize);
        self.batches.borrow_mut().push(texts.iter().map(|text| text[0]).collect());
        let holds = |token| texts.iter().any(|text| text.contains(&token));
        if holds(REFUSED) {
            return Err(llama::Error::Decode(-1));
        }
        let number = if holds(NOT_FINITE) { f32::NAN } else { 1.0 };
        Ok(texts
            .iter()
            .map(|text| vec![number, f32::from(i16::try_from(text[0]).unwrap())])
            .collect())
    }
}

/// What is asked and what came of it.
struct Desk {
    vectors: Vectors<Fake>,
    batches: Rc<RefCell<Vec<Vec<Token>>>>,
    sent: Receiver<Option<FromEngine>>,
    events: SyncSender<Event>,
    mailbox: Receiver<Event>,
}

fn desk(
    pooling: Pooling,
    before: impl Fn(&SyncSender<Event>, &FakeClock, usize) + 'static,
) -> Desk {
    let (out, sent) = Outbox::new();
    let (events, mailbox) = sync_channel(8);
    let clock = Arc::new(FakeClock::new(Timestamp(0)));
    let batches = Rc::default();
    let (to, time) = (events.clone(), Arc::clone(&clock));
    let before: Hook = Box::new(move |begin| before(&to, &time, begin));
    let fake = Fake { batches: Rc::clone(&batches), pooling, before };
    let vectors = Vectors::new(fake, out, clock);
    Desk { vectors, batches, sent, events, mailbox }
}

impl Desk {
    fn quiet() -> Self {
        desk(Pooling::Mean, |_, _, _| {})
    }

    /// Asks for vectors of texts of one token each, so many of it.
    fn ask(&mut self, id: u64, texts: &[(Token, usize)], deadline: Option<Monotonic>) {
        let texts = (0u32..)
            .zip(texts)
            .map(|(index, (token, count))| Text { index, tokens: vec![*token; *count] });
        let place = Place::take(&Arc::new(AtomicUsize::new(0)), 1).unwrap();
        let texts = Texts::new(id, texts.collect(), deadline, place);
        assert!(self.vectors.handle(Event::Texts(Box::new(texts))));
    }

    /// Computes so many batches.
    fn steps(&mut self, count: usize) {
        for _ in 0..count {
            assert!(self.vectors.step(&self.mailbox));
        }
    }

    /// Whose vectors were sent and who ended how, in order.
    fn said(&self) -> Vec<String> {
        let sent = self.sent.try_iter().flatten().filter_map(|message| match message {
            FromEngine::Vector { id, index, numbers } => {
                assert!(unpack(&numbers).unwrap().iter().all(|number| number.is_finite()));
                Some(format!("{id}[{index}]"))
            }
            FromEngine::Embedded { id, .. } => Some(format!("{id} whole")),
            FromEngine::Failed { id, failure } => Some(format!("{id} {}", failure.message)),
            _ => None,
        });
        sent.collect()
    }
}

#[test]
fn a_text_that_does_not_fit_keeps_its_turn_and_others_fill_the_batch() {
    let mut desk = Desk::quiet();
    desk.ask(1, &[(1, 700); 3], None);
    desk.ask(2, &[(2, 3); 200], None);
    desk.ask(3, &[(3, 400); 2], None);
    desk.steps(5);
    let batches = desk.batches.borrow().clone();
    // A text of 700 tokens has two parts. What is left of a batch beside 400 tokens holds 37 short
    // texts.
    assert_eq!(batches[..2], [[1], [1]]);
    assert_eq!(batches[2][..3], [2, 3, 2]);
    assert_eq!((batches[2].len(), batches[2].iter().filter(|one| **one == 3).count()), (38, 1));
    assert_eq!(batches[3..5], [[1], [1]], "it did not fit and so is first");
    assert_eq!(batches[5][..2], [3, 2], "its second text did not fit either");
    assert_eq!((batches[5].len(), &batches[6..]), (38, &[vec![1], vec![1]][..]));
}

#[test]
fn short_texts_beside_long_ones_fill_every_other_batch() {
    let mut desk = Desk::quiet();
    desk.ask(1, &[(1, 512); 40], None);
    desk.ask(2, &[(2, 4); 2_048], None);
    desk.steps(64);
    let batches = desk.batches.borrow().clone();
    assert!(batches.chunks(2).all(|two| two[0] == [1] && two[1] == [2; 64]), "{batches:?}");
    assert_eq!(desk.said().last().unwrap(), "2 whole");
}

#[test]
fn a_text_without_a_vector_fails_its_own_request_alone() {
    for fault in [REFUSED, NOT_FINITE] {
        let mut desk = Desk::quiet();
        desk.ask(1, &[(1, 2); 2], None);
        desk.ask(2, &[(2, 2), (fault, 2), (2, 2)], None);
        desk.ask(3, &[(3, 2)], None);
        desk.steps(1);
        let failed = "2 'input[1]' has no vector by this model";
        let said = desk.said();
        assert_eq!(said, ["1[0]", "2[0]", "3[0]", "1[1]", failed, "3 whole", "1 whole"]);
        // Together, then by themselves but for the text of a request that has failed.
        assert_eq!(desk.batches.borrow().len(), 1 + 5);
        assert!(desk.vectors.waiting.is_empty());
    }
}

#[test]
fn a_long_text_is_given_up_between_its_parts() {
    let cases = [
        ("1 cancelled", None),
        ("1 the deadline passed before every vector was computed", Some(Duration::from_secs(1))),
    ];
    for (failed, deadline) in cases {
        let mut desk = desk(Pooling::Last, move |events, clock, begin| {
            if begin > 0 {
                clock.advance(Duration::from_secs(2));
                if deadline.is_none() {
                    events.send(Event::Cancel(1)).unwrap();
                }
            }
        });
        desk.ask(1, &[(1, 5 * 512)], deadline);
        desk.steps(1);
        assert_eq!((desk.said(), desk.batches.borrow().len()), (vec![failed.to_owned()], 2));
    }
}

#[test]
fn the_end_does_not_wait_for_a_long_text() {
    let mut desk = Desk::quiet();
    desk.ask(1, &[(1, 5 * 512)], None);
    desk.events.send(Event::Stop).unwrap();
    assert!(!desk.vectors.step(&desk.mailbox));
    assert!(desk.said().is_empty() && desk.batches.borrow().is_empty());
    let Desk { vectors, sent, events, mailbox, .. } = desk;
    events.send(Event::Stop).unwrap();
    vectors.run(&mailbox);
    let Some(Some(FromEngine::Failed { id: 1, failure })) = sent.iter().last() else { panic!() };
    assert_eq!(failure.code, FailureCode::ShuttingDown);
}

#[test]
fn parts_are_pooled_by_their_length() {
    let mut whole = vec![1; 512];
    whole.extend([9; 128]);
    for (pooling, wanted) in [(Pooling::Mean, 2.6), (Pooling::Cls, 1.0), (Pooling::Last, 9.0)] {
        let mut desk = desk(pooling, |_, _, _| {});
        let text = Text { index: 0, tokens: whole.clone() };
        desk.ask(1, &[], None);
        desk.vectors.waiting[0].left.push_back(text);
        desk.steps(1);
        let mut sent = desk.sent.try_iter().flatten();
        let numbers = sent.find_map(|message| match message {
            FromEngine::Vector { numbers, .. } => Some(unpack(&numbers).unwrap()),
            _ => None,
        });
        let numbers = numbers.unwrap();
        assert!((numbers[1] / numbers[0] - wanted).abs() < 1e-4, "{pooling:?}: {numbers:?}");
    }
}
