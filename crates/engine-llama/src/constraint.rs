//! Holds one generation to its grammar, token by token, and closes what is open before the tokens run out.
//!
//! Free text is not masked: it costs nothing until the marker of a tool call is complete, from where on the call's
//! grammar binds. Before a bound token is taken, it is made sure that what it opens can still be closed within the
//! tokens that are left; if not, the shortest way to the end is taken instead. So whatever `max_tokens` is, a tool
//! call and a schema's answer parse, unless it is too small for even the shortest.

use llguidance::Matcher;
use toktrie::SimpleVob;

use crate::grammar::Bound;
use crate::llama::Token;
use crate::sampler::{NothingPossible, Sampler};
use crate::vocab::{CALL_OPEN, Closing, Vocab};

/// Steps of the shortest way to the end that are looked ahead.
const CLOSE_STEPS_MAX: usize = 1_024;
/// With more tokens left than this, only tokens that open something are checked.
const CLOSE_CHECK_TOKENS: usize = 96;
/// With more tokens left than this, nothing is checked: no schema needs so many to be closed.
const CLOSE_IGNORE_TOKENS: usize = 4_096;

/// What binds one generation now.
#[derive(Debug)]
pub(crate) struct Constraint {
    bound: Bound,
    /// The matcher that binds now, if one does.
    active: Option<Active>,
    calls_closed: u32,
}

struct Active {
    matcher: Matcher,
    /// The way to the end is being taken.
    closing: bool,
    /// Whether the answer ends with it.
    whole: bool,
}

impl std::fmt::Debug for Active {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Active").field("closing", &self.closing).finish_non_exhaustive()
    }
}

/// Why no token could be drawn.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the model gave no usable probabilities")]
    Logits,
    #[error("the grammar can't go on: {0}")]
    Grammar(String),
}

impl From<NothingPossible> for Error {
    fn from(_: NothingPossible) -> Self {
        Self::Logits
    }
}

/// A token that was drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drawn {
    /// The token.
    pub(crate) token: Token,
    /// The answer ends with it, whatever may follow.
    pub(crate) ends: bool,
    /// It was forced to close in time, so the answer is shorter than the model wanted.
    pub(crate) cut: bool,
}

impl Constraint {
    /// Binds a generation.
    pub(crate) fn new(bound: Bound) -> Self {
        let active = match &bound {
            Bound::Whole { all, .. } => {
                Some(Active { matcher: all.clone(), closing: false, whole: true })
            }
            Bound::Free { .. } | Bound::Calls { .. } => None,
        };
        Self { bound, active, calls_closed: 0 }
    }

    /// Whether the answer may hold tool calls.
    pub(crate) fn calls_allowed(&self) -> bool {
        matches!(self.bound, Bound::Calls { .. } | Bound::Whole { calls: true, .. })
    }

    /// Whether a grammar binds now, so that stop sequences would break it.
    pub(crate) fn is_bound(&self) -> bool {
        self.active.is_some()
    }

    /// Draws the next token. `marker_part`: bytes of the opening marker that the text ends with. `left`: tokens that
    /// may follow this one.
    ///
    /// # Errors
    /// No token is possible.
    pub(crate) fn draw(
        &mut self,
        sampler: &mut Sampler,
        vocab: &Vocab,
        logits: &[f32],
        marker_part: usize,
        left: usize,
    ) -> Result<Drawn, Error> {
        match self.active.take() {
            Some(active) => self.draw_bound(active, sampler, vocab, logits, left),
            None => self.draw_free(sampler, vocab, logits, marker_part),
        }
    }

    fn draw_free(
        &mut self,
        sampler: &mut Sampler,
        vocab: &Vocab,
        logits: &[f32],
        marker_part: usize,
    ) -> Result<Drawn, Error> {
        let ban = matches!(self.bound, Bound::Free { ban_calls: true });
        let banned = vocab.call_open().filter(|_| ban);
        let mut token = sampler.sample(logits, None, banned)?;
        if let Bound::Calls { call, .. } = &self.bound
            && let Some(over) = completes_marker(vocab.output_text(token), marker_part)
        {
            // A token that reaches beyond the marker would begin the call's text before the grammar binds.
            if over > 0 {
                let missing = &CALL_OPEN.as_bytes()[marker_part..];
                token = vocab.longest_prefix(missing).unwrap_or(token);
            }
            if completes_marker(vocab.output_text(token), marker_part).is_some() {
                self.active =
                    Some(Active { matcher: call.clone(), closing: false, whole: false });
            }
        }
        Ok(Drawn { token, ends: vocab.is_end(token), cut: false })
    }

    fn draw_bound(
        &mut self,
        mut active: Active,
        sampler: &mut Sampler,
        vocab: &Vocab,
        logits: &[f32],
        left: usize,
    ) -> Result<Drawn, Error> {
        let grammar = |error: anyhow::Error| Error::Grammar(error.to_string());
        let mask = active.matcher.compute_mask_or_eos().map_err(grammar)?;
        let mut token = if active.closing {
            shortest(&mask, vocab).ok_or(Error::Logits)?
        } else {
            sampler.sample(logits, Some(&mask), None)?
        };
        if vocab.is_end(token) {
            return Ok(Drawn { token, ends: true, cut: active.closing });
        }
        let before = needs_check(vocab, token, left).then(|| active.matcher.clone());
        active.matcher.consume_token(token.unsigned_abs()).map_err(grammar)?;
        if let Some(before) = before.filter(|_| !active.closing)
            && !closes_within(active.matcher.clone(), vocab, left)
            && let Some(other) = shortest(&mask, vocab).filter(|other| !vocab.is_end(*other))
        {
            active = Active { matcher: before, closing: true, whole: active.whole };
            token = other;
            active.matcher.consume_token(token.unsigned_abs()).map_err(grammar)?;
        }
        let cut = active.closing;
        let finished = active.matcher.is_stopped();
        // On the way to the end, the first place where the answer may end is the end.
        let may_end = cut && active.matcher.is_accepting().map_err(grammar)?;
        if !(finished || may_end) {
            self.active = Some(active);
            return Ok(Drawn { token, ends: false, cut });
        }
        self.calls_closed += 1;
        let last_call = matches!(self.bound, Bound::Calls { parallel: false, .. });
        Ok(Drawn { token, ends: active.whole || last_call || cut, cut })
    }
}

/// How many bytes of `text` reach beyond the marker that it completes; `None` if it doesn't.
fn completes_marker(text: &[u8], marker_part: usize) -> Option<usize> {
    let marker = CALL_OPEN.as_bytes();
    let joined = [&marker[..marker_part], text].concat();
    let at = joined.windows(marker.len()).position(|window| window == marker)?;
    Some(joined.len() - at - marker.len())
}

/// Whether a token may open more than can be closed in time.
fn needs_check(vocab: &Vocab, token: Token, left: usize) -> bool {
    let opens = |byte: &u8| matches!(byte, b'{' | b'[' | b',' | b':' | b'"');
    left <= CLOSE_CHECK_TOKENS
        || (left <= CLOSE_IGNORE_TOKENS && vocab.output_text(token).iter().any(opens))
}

/// Whether the shortest way to an end takes at most `left` tokens.
fn closes_within(mut matcher: Matcher, vocab: &Vocab, left: usize) -> bool {
    for _ in 0..left.min(CLOSE_STEPS_MAX) {
        if matcher.is_stopped() || matcher.is_accepting().unwrap_or(false) {
            return !matcher.is_error();
        }
        let Ok(mask) = matcher.compute_mask() else { return false };
        let Some(token) = shortest(&mask, vocab) else { return false };
        if matcher.consume_token(token.unsigned_abs()).is_err() {
            return false;
        }
    }
    !matcher.is_error() && (matcher.is_stopped() || matcher.is_accepting().unwrap_or(false))
}

/// The allowed token that leads to the end soonest: what closes first, what is required next, numbers last.
fn shortest(mask: &SimpleVob, vocab: &Vocab) -> Option<Token> {
    let mut best: Option<(Closing, usize, usize)> = None;
    mask.iter_set_entries(|index| {
        let Ok(token) = Token::try_from(index) else { return };
        let class = if vocab.is_end(token) { Closing::Bracket } else { vocab.closing(index) };
        let length = vocab.output_text(token).len();
        // Of what closes and of what is spelled out anyway the longest; of numbers and of commas the shortest.
        let order = match class {
            Closing::Bracket | Closing::Quote | Closing::Other => usize::MAX - length,
            Closing::Comma | Closing::Digit => length,
        };
        let candidate = (class, order, index);
        if best.is_none_or(|best| candidate < best) {
            best = Some(candidate);
        }
    });
    best.and_then(|(_, _, index)| Token::try_from(index).ok())
}
