//! A second opinion: a model says of a share of the decisions about tiers whether they were right.
//!
//! An answer of such a Call is read along as it passes, and judged when it is over: nobody waits
//! for that. Where the strong tier answered, the cheap one is asked the same first; both are Calls
//! of their own, beside the Call that they are about. Invariants: what is held of answers is
//! bounded in number and in size, is in memory only, and goes with a clean stop; what a day may
//! cost is never passed. What follows from an opinion is for people: nothing here changes what is
//! decided.

mod places;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use types::auto::{AutoJudge, AutoPolicy, Tier};
use types::call::{ModelCall, Operation, Target};
use types::clock::within;
use types::{Call, Conversation, ErrorCode, Money, Notes, OutcomeEvent, Stop};

use super::tally::RouteTally;
use super::{NOTE, TASK};
use crate::child::{self, Asked};
use crate::execute::attempts::Shared;
use crate::execute::cascade::answer::{Said, bytes_of};
use crate::execute::cascade::judge::{Terms, grade, grade_two};
use crate::identify::Purpose;
pub(crate) use places::Places;
use places::{Place, Purse};

/// Bytes of an answer that is read along; a longer one gets no opinion.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Events of it at most: more than that many bytes of text have.
const EVENTS_MAX: usize = 1 << 14;
/// Output cap of the cheap tier's answer in tokens, where the client set no lower one.
const CHEAP_TOKENS_MAX: u64 = 8_192;
/// How long the cheap tier's answer may take.
const CHEAP_TIME_MAX: Duration = Duration::from_secs(30);
/// How long an opinion may take in the whole, with its turn to wait for: what is deleted meanwhile
/// is gone everywhere within a minute.
const TIME_MAX: Duration = Duration::from_secs(50);
/// The note on the Calls that are made for an opinion.
const PURPOSE: &str = "auto_judge";

/// An answer that is read along.
pub(crate) struct Tape {
    shared: Arc<Shared>,
    call: Arc<Call>,
    decided: Tier,
    events: VecDeque<OutcomeEvent>,
    bytes: usize,
    place: Place,
}

/// Why there is no opinion, of those that were to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// A model failed, or said nothing that is a score.
    Failed,
    /// A budget did not have the money, or the day's is spent.
    Refused,
    /// It would have been too much: others are being judged, or it is too large or of a kind that
    /// can't be asked again.
    PassedOver,
}

/// What is to be found out.
enum Question {
    /// How good is the cheap tier's answer, which the client got?
    OfCheap,
    /// How good would the answer of this target have been, beside the one that the client got?
    Beside(Arc<Target>),
}

impl Tape {
    /// Begins to read an answer along, if its Call is one of the share.
    pub(crate) fn begin(shared: &Arc<Shared>, call: &Arc<Call>) -> Option<Box<Self>> {
        let judge = judge_of(call)?;
        let model = call.model().filter(|model| model.operation == Operation::Chat)?;
        let decided = decided(&call.notes)?;
        let drawn = shared.ids.fraction() * f64::from(AutoJudge::WHOLE);
        if drawn >= f64::from(judge.share_millionths) {
            return None;
        }
        let tiers = shared.recorder.tiers();
        // What its caller allowed for this Call alone is not for others that it did not ask for.
        let may_be_asked = call.budget.is_none() && can_be_asked_again(model);
        let place = tiers.opinions.place().filter(|_| may_be_asked);
        let Some(place) = place else {
            tiers.miss(&call.plan.name, Missing::PassedOver);
            return None;
        };
        let (shared, call) = (Arc::clone(shared), Arc::clone(call));
        let (events, bytes) = (VecDeque::new(), 0);
        Some(Box::new(Self { shared, call, decided, events, bytes, place }))
    }

    /// Sees an event pass that `target` answers. After the last one of an answer, the opinion on it
    /// is asked for in the background.
    pub(crate) fn see(tape: &mut Option<Box<Self>>, event: &OutcomeEvent, target: &Arc<Target>) {
        let Some(it) = tape else { return };
        match event {
            OutcomeEvent::Start(_) => return,
            OutcomeEvent::Failed(_) => return *tape = None,
            OutcomeEvent::Frame { .. } | OutcomeEvent::Finish(_) => {}
        }
        it.bytes = it.bytes.saturating_add(bytes_of(event));
        if it.bytes > ANSWER_BYTES_MAX || it.events.len() >= EVENTS_MAX {
            it.shared.recorder.tiers().miss(&it.call.plan.name, Missing::PassedOver);
            return *tape = None;
        }
        it.events.push_back(event.clone());
        if matches!(event, OutcomeEvent::Finish(_))
            && let Some(tape) = tape.take()
        {
            tape.over(target);
        }
    }

    /// The answer is over.
    fn over(self, target: &Arc<Target>) {
        let Some(question) = self.question(target) else { return };
        let tracker = self.shared.escrow.desk.tracker.clone();
        tracker.spawn(async move {
            let shared = Arc::clone(&self.shared);
            let (tiers, clock) = (shared.recorder.tiers(), &*shared.clock);
            let route = Arc::clone(&self.call.plan.name);
            let asked = Box::pin(within(clock, TIME_MAX, self.ask(question)));
            let Some(outcome) = tiers.opinions.unless_stopped(asked).await else { return };
            if let Err(missing) = outcome.unwrap_or(Err(Missing::Failed)) {
                tiers.miss(&route, missing);
            }
        });
    }

    /// What is to be asked of an answer; nothing where another tier answered than was meant to.
    fn question(&self, target: &Arc<Target>) -> Option<Question> {
        let policy = self.call.plan.policy.auto.as_deref()?;
        match (self.decided, policy.tier_of(&target.name)?) {
            (Tier::Cheap, Tier::Cheap) => Some(Question::OfCheap),
            (Tier::Cheap, Tier::Strong) if !policy.shadow => None,
            (Tier::Strong, Tier::Cheap) => None,
            (Tier::Cheap | Tier::Strong, Tier::Strong) => {
                let mut targets = self.call.plan.targets.iter();
                let cheap =
                    |target: &&Arc<Target>| policy.tier_of(&target.name) == Some(Tier::Cheap);
                targets.find(cheap).cloned().map(Question::Beside)
            }
        }
    }

    async fn ask(self, question: Question) -> Result<(), Missing> {
        let Self { shared, call, decided, events, place, .. } = self;
        let judge = judge_of(&call).ok_or(Missing::Failed)?;
        let model = call.model().ok_or(Missing::Failed)?;
        let given = Said::read(&events, Some(model.format), model.head.stream);
        drop(events);
        let given = given.ok_or(Missing::Failed)?;
        let _turn = place.turn().await;
        let tiers = shared.recorder.tiers();
        let purse = judge
            .day_max
            .map(|day_max| tiers.opinions.purse(&call.plan.name, day_max, shared.clock.now()));
        let mut paid = Paid { shared: &shared, call: &call, judge, purse: purse.transpose()? };
        let (cheap, strong) = match &question {
            Question::OfCheap => (paid.grade(&given).await?, None),
            Question::Beside(target) => {
                let cheap = paid.ask_cheap(target).await?;
                let [cheap, given] = paid.grade_two(&cheap, &given).await?;
                (cheap, Some(given))
            }
        };
        let is_enough =
            cheap >= judge.judge.threshold || strong.is_some_and(|strong| cheap >= strong);
        let disagrees = is_enough != (decided == Tier::Cheap);
        tiers.with(&call.plan.name, |tally| {
            let opinions = tally.opinions_on(decided);
            opinions.judged += 1;
            opinions.disagreed += u64::from(disagrees);
        });
        let (call, decided) = (&call.id, decided.name());
        tracing::info!(%call, decided, cheap, ?strong, disagrees, "a decision was judged");
        Ok(())
    }
}

/// What asks, and counts what that costs.
struct Paid<'a> {
    shared: &'a Arc<Shared>,
    call: &'a Arc<Call>,
    judge: &'a AutoJudge,
    purse: Option<Purse<'a>>,
}

impl Paid<'_> {
    /// The same request, asked of a target of the cheap tier.
    async fn ask_cheap(&mut self, target: &Target) -> Result<Said, Missing> {
        let model = self.call.model().ok_or(Missing::Failed)?;
        let neutral = model.neutral().map_err(|_| Missing::Failed)?;
        // Fields that only its own format knows may ask for what costs or acts: a search, a store.
        let conversation =
            Conversation { rest: serde_json::Map::new(), ..Conversation::clone(&neutral) };
        let own = model.head.output_cap.unwrap_or(u64::MAX);
        let asked = Asked {
            model: &target.name,
            conversation,
            is_parents: true,
            output_cap: own.min(CHEAP_TOKENS_MAX),
            budget: self.left(),
            time_max: CHEAP_TIME_MAX,
            purpose: Some(purpose("answer")),
        };
        match child::ask(self.shared, self.call, asked).await {
            Ok(told) => {
                self.pay(told.cost);
                // One that our cap cut says nothing about the tier.
                let is_cut = told.said.stop == Stop::Length && own > CHEAP_TOKENS_MAX;
                if is_cut { Err(Missing::PassedOver) } else { Ok(told.said) }
            }
            Err((failure, cost)) => {
                self.pay(cost);
                Err(why(failure.code))
            }
        }
    }

    async fn grade(&mut self, said: &Said) -> Result<u8, Missing> {
        let verdict = grade(self.shared, self.call, self.terms(), said).await;
        self.pay(verdict.cost);
        verdict.score.map_err(why)
    }

    /// In either order: who comes first is graded differently by many a model.
    async fn grade_two(&mut self, one: &Said, other: &Said) -> Result<[u8; 2], Missing> {
        let swaps = self.shared.ids.fraction() < 0.5;
        let answers = if swaps { [other, one] } else { [one, other] };
        let verdict = grade_two(self.shared, self.call, self.terms(), answers).await;
        self.pay(verdict.cost);
        let mut scores = verdict.score.map_err(why)?;
        if swaps {
            scores.reverse();
        }
        Ok(scores)
    }

    fn terms(&self) -> Terms<'_> {
        let purpose = Some(purpose("grade"));
        Terms { policy: &self.judge.judge, budget: self.left(), purpose }
    }

    fn left(&self) -> Option<Money> {
        self.purse.as_ref().map(Purse::take)
    }

    fn pay(&mut self, cost: Money) {
        if let Some(purse) = &mut self.purse {
            purse.pay(cost);
        }
        let tiers = self.shared.recorder.tiers();
        tiers.with(&self.call.plan.name, |tally: &mut RouteTally| {
            tally.judging = tally.judging.saturating_add(cost);
        });
    }
}

const fn purpose(what: &'static str) -> Purpose {
    Purpose { class: AutoJudge::CLASS, note: (PURPOSE, what) }
}

const fn why(code: ErrorCode) -> Missing {
    if matches!(code, ErrorCode::BudgetExceeded | ErrorCode::PriceUnknown) {
        return Missing::Refused;
    }
    Missing::Failed
}

fn judge_of(call: &Call) -> Option<&AutoJudge> {
    call.plan.policy.auto.as_deref().and_then(|policy: &AutoPolicy| policy.judge.as_ref())
}

/// The tier that the classifier found for a Call. What a rule decided, its task or its caller, was
/// not decided by how hard it seems.
fn decided(notes: &Notes) -> Option<Tier> {
    let note = notes.get(NOTE)?;
    note.get("score")?;
    let is_kept = |reasons: &Vec<Value>| reasons.iter().any(|reason| reason == TASK);
    if note.get("reasons").and_then(Value::as_array).is_none_or(is_kept) {
        return None;
    }
    Tier::parse(note.get("tier")?.as_str()?)
}

/// Whether a request means the same to another target, and costs no more than its tokens.
fn can_be_asked_again(model: &ModelCall) -> bool {
    let head = &model.head;
    head.choices <= 1 && head.media == 0 && head.surcharge.is_none()
}

#[cfg(test)]
mod tests;
