//! What a model costs, and from when on: what the operator says of it, and before that what its
//! vendor asks for it.
//!
//! Invariant: a price that nobody knows is absent and not zero. Where a vendor's prices come from
//! must not be known here.

use std::fmt;

use storage::models::DatedPrice;
use types::{Price, Timestamp};

use super::directory::ProviderInfo;

/// Names the price of a model of a provider whose models are free until priced.
const FREE_PRICE: &str = "unpriced@free";

/// What models cost at their vendor.
pub trait PriceList: fmt::Debug + Send + Sync {
    /// Of a model by its name there, oldest first; empty = nobody knows.
    fn prices(&self, model: &str) -> &[DatedPrice];
}

impl ProviderInfo {
    /// What a model costs at `now`, if the operator says `own` of it, oldest first; `None` = nobody
    /// knows.
    pub fn price_at(
        &self,
        upstream_model: &str,
        own: &[DatedPrice],
        now: Timestamp,
    ) -> Option<Price> {
        let mut dated = self.dated(upstream_model, own).rev();
        let known = dated.find(|dated| dated.since <= now).map(|dated| dated.price.clone());
        known.or_else(|| self.before_any_price())
    }

    /// The same for all times: from when on which price holds, oldest first.
    pub(crate) fn prices(
        &self,
        upstream_model: &str,
        own: &[DatedPrice],
    ) -> Vec<(Timestamp, Option<Price>)> {
        let first = (Timestamp(i64::MIN), self.before_any_price());
        let dated = self.dated(upstream_model, own);
        let known = dated.map(|dated| (dated.since, Some(dated.price.clone())));
        [first].into_iter().chain(known).collect()
    }

    /// The vendor's prices until the first of the operator's own, and those.
    fn dated<'a>(
        &'a self,
        upstream_model: &str,
        own: &'a [DatedPrice],
    ) -> impl DoubleEndedIterator<Item = &'a DatedPrice> {
        let listed = self.prices.as_ref().map(|list| list.prices(upstream_model));
        let listed = listed.unwrap_or_default();
        let until = own.first().map_or(listed.len(), |first| {
            listed.partition_point(|dated| dated.since < first.since)
        });
        listed.iter().take(until).chain(own)
    }

    fn before_any_price(&self) -> Option<Price> {
        self.free_until_priced.then(|| Price::free(FREE_PRICE))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Debug)]
    struct List(Vec<DatedPrice>);

    impl PriceList for List {
        fn prices(&self, model: &str) -> &[DatedPrice] {
            if model == "known" { &self.0 } else { &[] }
        }
    }

    fn dated(since: i64, version: &str) -> DatedPrice {
        DatedPrice { since: Timestamp(since), price: Price::free(version) }
    }

    fn provider(listed: Vec<DatedPrice>) -> ProviderInfo {
        ProviderInfo { prices: Some(Arc::new(List(listed))), ..ProviderInfo::default() }
    }

    #[test]
    fn a_vendors_price_holds_until_the_operator_says_another() {
        let provider = provider(vec![dated(0, "old"), dated(10, "new"), dated(30, "newest")]);
        let at = |own: &[DatedPrice], now: i64| {
            let price = provider.price_at("known", own, Timestamp(now));
            let plans = provider.prices("known", own);
            let plan = plans.iter().rev().find(|(since, _)| *since <= Timestamp(now)).unwrap();
            assert_eq!(plan.1, price, "one answer for one time and for all");
            price.map(|price| price.version)
        };
        let version = |said: &str| Some(said.to_owned());
        assert_eq!([at(&[], 9), at(&[], 10), at(&[], 99)], ["old", "new", "newest"].map(version));
        let own = [dated(20, "own"), dated(40, "later")];
        assert_eq!(
            [at(&own, 19), at(&own, 35), at(&own, 40)],
            ["new", "own", "later"].map(version)
        );
        assert_eq!(at(&[], -1), None);
        assert_eq!(provider.price_at("other", &[], Timestamp(99)), None, "not zero");
    }
}
