//! What a Call needs of limits, before it is known what it uses: its bound.
//!
//! Values in, values out. The same bounds as money's ([`bound`]): what is reserved is more than a
//! Call can use, as long as its target keeps to the output cap. A Call that has no cap gets one
//! where a limit on tokens or cost is in scope, since it could not be held to the limit otherwise.

use types::call::{Operation, Target};
use types::{Call, ErrorCode, Failure, ModelCall};

use super::set::InScope;
use super::{Amounts, Kind};
use crate::admit::{Offer, bound};

/// A cap that we choose is lowered to what this part of a limit affords.
const SHARE_OF_LIMIT: u64 = 4;

/// What a Call needs at most.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Needs {
    pub(super) amounts: Amounts,
    /// The output cap that it is to be given, in tokens; `None` = its own, or none.
    cap: Option<u64>,
    /// Whether only targets with a known price are of use.
    priced: bool,
}

impl Needs {
    /// Of `call`, under these limits.
    pub(super) fn of(call: &Call, in_scope: &[InScope]) -> Result<Self, Failure> {
        let mut needs = Self::default();
        needs.amounts.set(Kind::Requests, 1);
        let most_of = |kind| in_scope.iter().filter_map(move |(limit, _)| limit.most_of(kind));
        let least = |kind| most_of(kind).min();
        let most = Amounts::from_fn(|kind| least(kind).unwrap_or(u64::MAX));
        let is_limited = |kind: &Kind| most.get(*kind) < u64::MAX;
        let Some(model) = call.model().filter(|model| !model.only_counts()) else {
            return Ok(needs);
        };
        if !Kind::OF_USAGE.iter().any(is_limited) {
            return Ok(needs);
        }
        let named = |kinds: &[Kind]| {
            let mut limits = in_scope.iter().map(|(limit, _)| limit);
            let limit = limits.find(|it| kinds.iter().any(|kind| it.most_of(*kind).is_some()));
            limit.map(|limit| limit.settings.name.as_str())
        };
        if let Some((name, field)) = named(&Kind::OF_TOKENS).zip(endless(call, model)) {
            let message = format!(
                "nobody can say beforehand how many tokens `{field}` uses, so that the limit \
                 `{name}` on tokens can't hold it: leave it out"
            );
            return Err(Failure::unsupported(field, message));
        }
        needs.count(call, model, &most);
        if let Some(name) = named(&[Kind::Cost]) {
            needs.bill(call, model, (most.get(Kind::Cost), name))?;
        }
        Ok(needs)
    }

    fn count(&mut self, call: &Call, model: &ModelCall, most: &Amounts) {
        let (head, choices) = (&model.head, model.head.choices.max(1));
        let rounds = searches(model).saturating_add(1);
        let input = match rounds {
            1 => bound::input_tokens_max(head, bound::has_tools(call)),
            // Each search is followed by a prompt of its own, with what was found in it.
            _ => {
                let contexts = call.plan.targets.iter().map(|target| target.context_tokens);
                let largest = contexts.flatten().max().unwrap_or(u64::MAX);
                largest.saturating_mul(rounds)
            }
        };
        let cap = match (model.operation, head.output_cap) {
            (Operation::Embed | Operation::CountTokens, _) => 0,
            (Operation::Chat, Some(cap)) => cap,
            (Operation::Chat, None) => {
                let caps = call.plan.targets.iter().map(|target| bound::default_cap(call, target));
                let ceiling = caps.max().unwrap_or(bound::OUTPUT_CAP_DEFAULT);
                let for_answer = most.get(Kind::Tokens).saturating_sub(input);
                let affords = for_answer.min(most.get(Kind::OutputTokens)) / SHARE_OF_LIMIT;
                let floor = ceiling.min(bound::OUTPUT_CAP_FLOOR);
                let answers = choices.saturating_mul(rounds);
                let cap = (affords / answers).clamp(floor, ceiling);
                self.cap = Some(cap);
                cap
            }
        };
        let output = cap.saturating_mul(choices).saturating_mul(rounds);
        self.amounts.set(Kind::InputTokens, input);
        self.amounts.set(Kind::OutputTokens, output);
        self.amounts.set(Kind::Tokens, input.saturating_add(output));
    }

    fn bill(
        &mut self,
        call: &Call,
        model: &ModelCall,
        (most, name): (u64, &str),
    ) -> Result<(), Failure> {
        let free = types::Money::from_nanodollars(i64::try_from(most).unwrap_or(i64::MAX));
        let priced = |target: &'_ std::sync::Arc<Target>| {
            let price = target.price.as_deref()?;
            Some(bound::terms(call, target, price, Some(free)))
        };
        let mut cost = None;
        for terms in call.plan.targets.iter().filter_map(priced) {
            cost = cost.max(Some(terms.bound));
            if let (Some(cap), Some(lower)) = (self.cap, terms.output_cap) {
                self.cap = Some(cap.min(lower));
            }
        }
        let Some(cost) = cost else { return Err(price_unknown(&call.plan.name, name)) };
        if let Some(field) = bound::unbounded(model).filter(|_| cost > types::Money::ZERO) {
            let message = format!(
                "nobody can say beforehand what `{field}` costs, so that the limit `{name}` on cost \
                 can't hold it: leave it out"
            );
            return Err(Failure::unsupported(field, message));
        }
        self.amounts.set(Kind::Cost, u64::try_from(cost.nanodollars()).unwrap_or(0));
        self.priced = true;
        Ok(())
    }

    /// Makes the offers of a Call such that none can use more than this.
    pub(super) fn limit(&self, call: &Call, offers: &mut Vec<Offer>) -> Result<(), Failure> {
        if self.priced {
            offers.retain(|offer| offer.target.price.is_some());
            if offers.is_empty() {
                return Err(price_unknown(&call.plan.name, "cost_usd"));
            }
        }
        let Some(cap) = self.cap else { return Ok(()) };
        for offer in offers {
            let cap = cap.min(bound::default_cap(call, &offer.target));
            let terms = &mut offer.terms;
            terms.output_cap = Some(terms.output_cap.map_or(cap, |lower| lower.min(cap)));
        }
        Ok(())
    }
}

/// Searches that a provider may make for it, at most.
fn searches(model: &ModelCall) -> u64 {
    model.head.extras.searches.map_or(0, |(searches, _)| searches)
}

/// The field of a request for which nobody knows how many tokens it uses.
fn endless(call: &Call, model: &ModelCall) -> Option<&'static str> {
    let searched = model.head.extras.searches.map(|(_, field)| field);
    // What a search finds is as long as the context has room for it.
    let has_no_end = || call.plan.targets.iter().any(|target| target.context_tokens.is_none());
    bound::unbounded(model).or_else(|| searched.filter(|_| has_no_end()))
}

fn price_unknown(model: &str, limit: &str) -> Failure {
    let message = format!(
        "the model `{model}` has no price for its input and output tokens, and the limit `{limit}` \
         on cost counts them: price it in the configuration, or with `holdfast models add` (a price \
         of 0 marks it free)"
    );
    Failure { param: Some("model".into()), ..Failure::new(ErrorCode::PriceUnknown, message) }
}
