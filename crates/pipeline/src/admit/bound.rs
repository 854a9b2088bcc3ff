//! How much a Call can cost at most, and the output cap that makes it so where the client set none.
//!
//! Values in, values out. Invariant: what an attempt can be billed never exceeds [`Terms::amount`],
//! as long as the provider counts no more input tokens than the request has bytes and its template
//! adds, and keeps to the output cap.

use types::call::{CallKind, ModelCall, ModelHead, Target};
use types::conversation::Part;
use types::surcharge::surcharge;
use types::{CacheWrites, Call, ErrorCode, Failure, Money, Price, Usage};

/// Output cap for Calls that name none, in tokens, where neither key nor model says less.
pub(crate) const OUTPUT_CAP_DEFAULT: u64 = 32_768;
/// Below this a default cap is never lowered, in tokens: agent SDKs take a cut answer for a failure
/// and run the turn again.
pub(crate) const OUTPUT_CAP_FLOOR: u64 = 4_096;
/// A default cap is lowered to what the free amount of the tightest budget, divided by this,
/// affords.
const SHARE_OF_FREE: i64 = 4;
/// Input tokens of one image at most: the dearest one of the catalogued models is 48,169 tokens.
const MEDIA_TOKENS_MAX: u64 = 65_536;
/// What a chat template adds to a request of its own accord, in tokens at most: a system prompt
/// where the client sent none (a date, the model's name and manners), and the marks around the
/// conversation. Qwen adds 21, Llama 3 about 40, gpt-oss about 80; a long conversation's own syntax
/// outweighs it many times, a short one's does not.
const TEMPLATE_TOKENS_MAX: u64 = 256;
/// What it adds to introduce tools, in tokens at most: how to call one, in the template's words.
/// Qwen adds about 150, Claude up to 530, Command R about 700. The tools themselves are in the
/// request, and counted there.
const TOOL_TEMPLATE_TOKENS_MAX: u64 = 1_024;

/// The field that multiplies the bill. A chat format reads it into [`ModelHead::choices`]; other
/// doors hand it on as it came.
const CHOICES: &str = "n";

/// What a Call is admitted at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// What is reserved for it: what it can cost at most, zero where no budget has to hold it.
    pub(crate) amount: Money,
    /// What it can cost at most, whether or not it is reserved: what stays on the bill of an
    /// attempt whose usage nobody knows. Zero where the price is not known. Where nothing limits
    /// its output either, an answer as long as the default cap is assumed.
    pub(crate) bound: Money,
    /// The output cap that is set for the client; `None` = its own stands.
    pub(crate) output_cap: Option<u64>,
}

/// Whether a Call costs nothing, whatever the price: tokens are counted for free.
pub(crate) fn costs_nothing(call: &Call) -> bool {
    call.model().is_some_and(ModelCall::only_counts)
}

/// Which writes to its prompt cache the target may bill: what the request's own marks ask for,
/// which other formats are told too where they have a word for them.
pub(crate) fn cache_writes(call: &Call, target: &Target) -> CacheWrites {
    let (Some(model), Some(format)) = (call.model(), target.format) else {
        return CacheWrites::Unmarked;
    };
    if format.name() == model.format.name() {
        return as_sent(model, target);
    }
    if target.lacks.cache_marks {
        return CacheWrites::Unmarked;
    }
    match (model.head.cache_writes, &model.raw) {
        // Its format says nothing of them in the head: only a few clients write some.
        (CacheWrites::Unread, Some(raw)) if !may_mark(raw) => CacheWrites::Unmarked,
        (CacheWrites::Unread, _) => {
            let neutral = model.neutral();
            neutral.map_or(CacheWrites::Unread, |neutral| neutral.cache_writes())
        }
        (read, _) => read,
    }
}

/// What the marks of a request ask for that goes out in its own format.
fn as_sent(model: &ModelCall, target: &Target) -> CacheWrites {
    match (model.head.cache_writes, &model.raw) {
        (CacheWrites::Unread, Some(raw)) if !target.lacks.cache_marks => {
            let read = || model.neutral().map(|neutral| neutral.cache_writes()).ok();
            let is_hidden = memchr::memmem::find(raw, br"\u").is_some();
            let an_hour = (has_text(raw, b"cache_control") && has_text(raw, b"1h"))
                || (is_hidden && read() == Some(CacheWrites::Hour));
            if an_hour { CacheWrites::Hour } else { CacheWrites::Unread }
        }
        (read, _) => read,
    }
}

/// Whether `text` is a whole text of a request, of a field or of a value. In a longer text its
/// quotes would be escaped.
fn has_text(raw: &[u8], text: &[u8]) -> bool {
    let byte = |at: usize| raw.get(at).copied();
    memchr::memmem::find_iter(raw, text).any(|at| {
        let is_begun = at > 0 && byte(at - 1) == Some(b'"');
        let is_escaped = at > 1 && byte(at - 2) == Some(b'\\');
        is_begun && !is_escaped && byte(at + text.len()) == Some(b'"')
    })
}

/// The usage as it is billed: a format that can't tell what was written for an hour says nothing of
/// it, and where an hour was asked for all may be.
pub(crate) fn by_cache_life(mut usage: Usage, call: &Call, target: &Target) -> Usage {
    let is_silent = target.format.is_some_and(|format| !format.tells_cache_life());
    if is_silent && usage.cache_write_tokens > 0 && cache_writes(call, target) == CacheWrites::Hour
    {
        usage.cache_write_1h_tokens = usage.cache_write_tokens;
    }
    usage
}

/// Whether a request may hold marks: their names, or escapes that can hide one.
fn may_mark(raw: &[u8]) -> bool {
    let has = |text: &[u8]| memchr::memmem::find(raw, text).is_some();
    has(b"cache_control") || has(b"cachePoint") || has(br"\u")
}

/// What a Call costs at most.
///
/// `tightest_free` is what the tightest hard budget in scope has left; it only matters where the
/// client set no cap.
pub(crate) fn terms(
    call: &Call,
    target: &Target,
    price: &Price,
    tightest_free: Option<Money>,
) -> Terms {
    let head = match &call.kind {
        CallKind::Model(model) => &model.head,
        CallKind::Tool(_) => return Terms::reserving(price.per_request, None),
    };
    let asks = head.extras.asks(cache_writes(call, target));
    let rounds = asks.searches.saturating_add(1);
    let choices = head.choices.max(1).saturating_mul(rounds);
    let input = match asks.searches {
        0 => input_tokens_max(head, has_tools(call)),
        // Each search is followed by a prompt of its own, with what was found in it.
        _ => target.context_tokens.unwrap_or(u64::MAX).saturating_mul(rounds),
    };
    let bound = |cap: u64| price.bound(input, cap.saturating_mul(choices), asks);
    if let Some(cap) = head.output_cap {
        return Terms::reserving(bound(cap), None);
    }
    let ceiling = default_cap(call, target);
    let floor = ceiling.min(OUTPUT_CAP_FLOOR);
    let share = tightest_free.map(|free| free.divided_by(SHARE_OF_FREE));
    let affords = [share, call.budget].into_iter().flatten().min();
    let tokens = affords.and_then(|amount| price.output_tokens_for(amount, input, asks));
    let cap = tokens.map_or(ceiling, |tokens| (tokens / choices).clamp(floor, ceiling));
    Terms::reserving(bound(cap), Some(cap))
}

/// What a Call is admitted at where nothing limits its cost: nothing is reserved, no cap is set.
pub(crate) fn unlimited(call: &Call, target: &Target) -> Terms {
    let price = target.price.as_deref();
    let bound = price.map_or(Money::ZERO, |price| terms(call, target, price, None).bound);
    Terms { amount: Money::ZERO, bound, output_cap: None }
}

impl Terms {
    /// Of a Call that costs nothing, whatever the price.
    pub(crate) const NOTHING: Self = Self::reserving(Money::ZERO, None);

    const fn reserving(amount: Money, output_cap: Option<u64>) -> Self {
        Self { amount, bound: amount, output_cap }
    }
}

/// Whether [`terms`] needs to know what budgets have left.
pub(crate) fn depends_on_free(call: &Call, price: &Price) -> bool {
    let capped = call.model().is_none_or(|model| model.head.output_cap.is_some());
    !capped && price.bills_output()
}

/// The model's maximum, or the key's default, or 32,768: whichever is least.
pub(crate) fn default_cap(call: &Call, target: &Target) -> u64 {
    let default = call.principal.output_cap_default.unwrap_or(OUTPUT_CAP_DEFAULT);
    // An answer stands in the context too: nothing longer than that can come.
    let most = [target.output_tokens_max, target.context_tokens].into_iter().flatten().min();
    most.map_or(default, |most| most.min(default)).max(1)
}

/// The field of a request for which no bound can be given at this target.
pub(crate) fn unbounded_at(
    model: &ModelCall,
    target: &Target,
    price: &Price,
) -> Option<&'static str> {
    let extras = &model.head.extras;
    // What a search finds is as long as the context has room for it.
    let endless = extras.searches.filter(|_| target.context_tokens.is_none());
    let endless = endless.map(|(_, field)| field);
    unbounded(model).or_else(|| extras.unpriced(price)).or(endless)
}

/// The field of a request for which no bound can be given, whatever its target.
///
/// Of what a client sent, its format has read it; what a session made has no bytes, but its neutral
/// form is there and costs nothing to ask. An image has a bound; a document or a sound has none.
pub(crate) fn unbounded(model: &ModelCall) -> Option<&'static str> {
    if model.head.surcharge.is_some() || model.raw.is_some() {
        return model.head.surcharge;
    }
    let conversation = model.neutral().ok()?;
    let rest = &conversation.rest;
    let billed_apart = surcharge(|name| Some(rest.get(name)?.to_string().into()));
    if billed_apart.is_some() {
        return billed_apart;
    }
    if rest.get(CHOICES).is_some_and(|choices| *choices != 1) {
        return Some(CHOICES);
    }
    conversation.parts().find_map(|part| match part {
        Part::Media { kind, .. } if kind == "image" => None,
        Part::Media { kind, .. } if kind == "file" => Some("input_file"),
        Part::Media { .. } => Some("content"),
        Part::Text { .. }
        | Part::ToolCall(_)
        | Part::ToolResult { .. }
        | Part::Reasoning { .. }
        | Part::Refusal { .. } => None,
    })
}

/// Whether a request declares tools: a client's head says so, a session's neutral form does.
pub(crate) fn has_tools(call: &Call) -> bool {
    let Some(model) = call.model() else { return false };
    match model.raw {
        Some(_) => model.head.tools,
        None => model.neutral().is_ok_and(|conversation| !conversation.tools.is_empty()),
    }
}

/// A token has at least one byte, and what stands between the messages outweighs the marks that
/// chat templates put there.
pub(crate) fn input_tokens_max(head: &ModelHead, has_tools: bool) -> u64 {
    let template = match has_tools {
        true => TEMPLATE_TOKENS_MAX + TOOL_TEMPLATE_TOKENS_MAX,
        false => TEMPLATE_TOKENS_MAX,
    };
    let media = u64::from(head.media).saturating_mul(MEDIA_TOKENS_MAX);
    head.body_bytes.saturating_add(template).saturating_add(media)
}

/// Refuses a Call that could cost more than its caller allowed for it alone.
pub(crate) fn check_call_budget(call: &Call, terms: &Terms) -> Result<(), Failure> {
    match call.budget {
        Some(allowed) if terms.amount > allowed => {
            let message = format!(
                "the header holdfast-budget allows ${allowed} for this call, and it may cost up to \
                 ${}: raise it, or set a lower output cap",
                terms.amount
            );
            Err(Failure::new(ErrorCode::BudgetExceeded, message))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
