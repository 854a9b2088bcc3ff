//! Holds one generation to its grammar, token by token, and closes what is open before the tokens
//! run out.
//!
//! Free text is not masked: it costs nothing until the marker of a tool call is complete, from
//! where on the call's grammar binds. Before a bound token is taken, it is made sure that what it
//! opens can still be closed within the tokens that are left; if not, the shortest way to the end
//! is taken instead. So whatever `max_tokens` is, a tool call and a schema's answer parse, unless
//! it is too small for even the shortest.

use llguidance::Matcher;
use toktrie::SimpleVob;

use crate::grammar::{Bound, CALLS_MAX};
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

#[derive(Clone)]
struct Active {
    matcher: Matcher,
    /// Where in the JSON the text stands.
    place: Place,
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

/// Whether a JSON text stands inside a string: there brackets are letters and only a quote closes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    in_string: bool,
    escaped: bool,
}

impl Place {
    fn after(mut self, bytes: &[u8]) -> Self {
        for byte in bytes {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ => {}
            }
        }
        self
    }
}

impl Active {
    fn new(matcher: Matcher, whole: bool) -> Self {
        Self { matcher, place: Place::default(), closing: false, whole }
    }

    fn consume(&mut self, token: Token, vocab: &Vocab) -> anyhow::Result<()> {
        self.place = self.place.after(vocab.output_text(token));
        self.matcher.consume_token(token.unsigned_abs())
    }

    /// Whether the answer may end here, or does.
    fn may_end(&mut self) -> bool {
        !self.matcher.is_error()
            && (self.matcher.is_stopped() || self.matcher.is_accepting().unwrap_or(false))
    }

    /// Whether the shortest way to an end takes at most `left` tokens.
    fn closes_within(mut self, vocab: &Vocab, left: usize) -> bool {
        for _ in 0..left.min(CLOSE_STEPS_MAX) {
            if self.may_end() {
                return true;
            }
            let Ok(mask) = self.matcher.compute_mask() else { return false };
            let Some(token) = shortest(&mask, self.place, vocab) else { return false };
            if self.consume(token, vocab).is_err() {
                return false;
            }
        }
        self.may_end()
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
            Bound::Whole { all, .. } => Some(Active::new(all.clone(), true)),
            Bound::Free { .. } | Bound::Calls { .. } => None,
        };
        Self { bound, active, calls_closed: 0 }
    }

    /// Whether the answer may hold tool calls.
    pub(crate) fn calls_allowed(&self) -> bool {
        matches!(self.bound, Bound::Calls { .. } | Bound::Whole { calls: true, .. })
    }

    /// Draws the next token. `marker_part`: bytes of the opening marker that the text ends with.
    /// `left`: tokens that may follow this one.
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
            // A token that reaches beyond the marker would begin the call's text before the grammar
            // binds.
            if over > 0 {
                let missing = &CALL_OPEN.as_bytes()[marker_part..];
                token = vocab.longest_prefix(missing).unwrap_or(token);
            }
            if completes_marker(vocab.output_text(token), marker_part).is_some() {
                self.active = Some(Active::new(call.clone(), false));
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
            shortest(&mask, active.place, vocab).ok_or(Error::Logits)?
        } else {
            sampler.sample(logits, Some(&mask), None)?
        };
        if vocab.is_end(token) {
            return Ok(Drawn { token, ends: true, cut: active.closing });
        }
        let check = !active.closing && needs_check(vocab, token, left);
        let before = check.then(|| active.clone());
        active.consume(token, vocab).map_err(grammar)?;
        if let Some(before) = before
            && !active.clone().closes_within(vocab, left)
            && let Some(other) = shortest(&mask, before.place, vocab)
        {
            if vocab.is_end(other) {
                return Ok(Drawn { token: other, ends: true, cut: true });
            }
            active = Active { closing: true, ..before };
            token = other;
            active.consume(token, vocab).map_err(grammar)?;
        }
        let cut = active.closing;
        let finished = active.matcher.is_stopped();
        // On the way to the end, the first place where the answer may end is the end.
        let may_end = cut && active.may_end();
        if !(finished || may_end) {
            self.active = Some(active);
            return Ok(Drawn { token, ends: false, cut });
        }
        self.calls_closed += 1;
        let last_call = matches!(self.bound, Bound::Calls { parallel: false, .. })
            || self.calls_closed >= CALLS_MAX;
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

/// The allowed token that leads to the end soonest: what closes first, what is required next,
/// numbers last.
fn shortest(mask: &SimpleVob, place: Place, vocab: &Vocab) -> Option<Token> {
    let mut best: Option<(Closing, usize, usize)> = None;
    mask.iter_set_entries(|index| {
        let Ok(token) = Token::try_from(index) else { return };
        let class = match vocab.closing(index) {
            _ if vocab.is_end(token) => Closing::Bracket,
            Closing::Quote => Closing::Quote,
            _ if place.in_string => Closing::Other,
            class => class,
        };
        let text = vocab.output_text(token);
        // Of what closes and of what is spelled out anyway the longest; of numbers and of commas
        // the shortest, and no zero: zeros may go on for ever behind a point.
        let order = match class {
            Closing::Bracket | Closing::Quote | Closing::Other => usize::MAX - text.len(),
            Closing::Comma => text.len(),
            Closing::Digit => 2 * text.len() + usize::from(text.ends_with(b"0")),
        };
        let candidate = (class, order, index);
        if best.is_none_or(|best| candidate < best) {
            best = Some(candidate);
        }
    });
    best.and_then(|(_, _, index)| Token::try_from(index).ok())
}
