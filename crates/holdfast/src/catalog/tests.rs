use types::Usage;

use super::*;

fn price(vendor: &str, model: &str) -> Option<Price> {
    let prices = Prices::of(vendor, None);
    prices.prices(model).last().map(|dated| dated.price.clone())
}

fn cost(price: &Price, usage: Usage) -> String {
    price.cost(&usage).to_string()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test may read the repository")]
fn every_file_is_compiled_in_and_every_line_is_read() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../catalog/models");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| Some(name.strip_suffix(".jsonl")?.to_owned()))
        .collect();
    files.sort();
    assert_eq!(files, vendors().collect::<Vec<_>>());
    for (vendor, text) in FILES {
        assert!(providers::vendor(vendor).is_some(), "{vendor} is no vendor");
        let read = rows(vendor);
        assert_eq!(read.len(), text.lines().count(), "{vendor} has a line that is no row");
        let mut names: Vec<&str> = read.iter().map(|row| row.id.as_str()).collect();
        names.dedup();
        assert_eq!(names.len(), read.len(), "{vendor} has a model twice");
        for row in &read {
            for price in &row.prices {
                assert!(price.since().is_some(), "{vendor}/{}: {}", row.id, price.as_of);
                let steps: Vec<u64> = price.steps.iter().map(|step| step.above).collect();
                assert!(steps.is_sorted(), "{vendor}/{} has steps out of order", row.id);
            }
        }
    }
}

#[test]
fn what_a_row_says_is_what_is_billed() {
    let claude = price("anthropic", "claude-sonnet-4-5").unwrap();
    assert_eq!(claude.version, "catalog@2026-11-12");
    let usage = Usage {
        input_tokens: 1_000_000,
        cached_tokens: 200_000,
        cache_write_tokens: 300_000,
        cache_write_1h_tokens: 100_000,
        output_tokens: 10_000,
        reasoning_tokens: 4_000,
        ..Usage::default()
    };
    // 0.5 M × $3 + 0.2 M × $0.30 + 0.2 M × $3.75 + 0.1 M × $6 + 10,000 × $15.
    assert_eq!(cost(&claude, usage), "3.06");
    let gemini = price("gemini", "gemini-2.5-pro").unwrap();
    let of = |input_tokens| Usage { input_tokens, ..Usage::default() };
    assert_eq!(cost(&gemini, of(200_000)), "0.25");
    assert_eq!(cost(&gemini, of(400_000)), "1.00", "twice the rate above 200,000 tokens");
}

#[test]
fn what_is_not_fully_known_has_no_price() {
    let row = |price: &str| {
        let text = format!(r#"{{"id":"m","prices":[{{"as_of":"2026-01-02",{price}}}]}}"#);
        dated(&serde_json::from_str(&text).unwrap())
    };
    assert_eq!(row(r#""output_image":"0.04""#), []);
    assert_eq!(row(r#""output":"1.00""#), []);
    assert_eq!(row(r#""input":"1.00""#).len(), 1);
    assert_eq!(row(r#""free":true"#), [], "the operator says so, or nobody");
    assert_eq!(row(r#""input":"0","output":"0","output_image":"0.04""#), []);
    assert_eq!(price("openrouter", "google/gemini-2.5-flash-image"), None, "it draws");
    assert_eq!(price("vercel", "perplexity/sonar"), None, "it searches, for an unknown fee");
    assert_eq!(price("openai", "no-such-model"), None);
    assert_eq!(price("azure", "gpt-4.1"), None, "a deployment may be of any model");
    assert_eq!(price("openai-compatible", "gpt-4.1"), None);
}

#[test]
fn what_comes_unasked_and_what_is_only_added_are_in_the_price() {
    let drawn = price("gemini", "gemini-2.5-flash-image").unwrap();
    assert_eq!(drawn.rates.output.per_million(), "30.00");
    let searching = price("perplexity", "sonar").unwrap();
    assert!(searching.per_request >= Money::parse("0.005").unwrap());
    let added = price("openrouter", "google/gemini-2.5-pro").unwrap();
    assert!(added.rates.cache_write.unwrap() > added.rates.input);
    let long = added.steps.first().unwrap().rates;
    assert_eq!(long.reasoning, None, "thinking costs what the longer answer does");
}

#[test]
fn every_price_is_more_than_nothing() {
    for vendor in vendors() {
        for row in rows(vendor) {
            for dated in dated(&row) {
                let Price { rates, steps, .. } = dated.price;
                for rates in steps.iter().map(|step| step.rates).chain([rates]) {
                    let name = format!("{vendor}/{}", row.id);
                    assert!(rates.input > Rate::FREE, "{name}");
                    assert!(rates.cache_write.is_none_or(|rate| rate >= rates.input), "{name}");
                    assert!(rates.reasoning.is_none_or(|rate| rate > Rate::FREE), "{name}");
                }
            }
        }
    }
}

#[test]
fn an_older_price_holds_until_the_day_of_the_newer() {
    let text = r#"{"id":"m","prices":[
        {"as_of":"2026-06-01","input":"2.00","output":"2.00"},
        {"as_of":"2026-01-02","input":"1.00","output":"1.00"}]}"#;
    let prices = dated(&serde_json::from_str(text).unwrap());
    let since: Vec<i64> = prices.iter().map(|dated| dated.since.seconds()).collect();
    assert_eq!(since, [0, 1_780_272_000]);
    assert_eq!(prices[1].price.version, "catalog@2026-06-01");
}

#[test]
fn a_region_and_a_tier_have_prices_of_their_own() {
    let rates = |region: Option<&str>| {
        let prices = Prices::of("bedrock", region);
        prices.prices("amazon.nova-lite-v1:0").last().unwrap().price.rates
    };
    assert_eq!(rates(None).input.per_million(), "0.06");
    assert_eq!(rates(Some("eu-central-1")), rates(None), "as everywhere");
    assert_eq!(rates(Some("us-gov-west-1")).input.per_million(), "0.072");
    let gpt = price("openai", "gpt-5").unwrap();
    let usage = Usage { input_tokens: 1_000_000, output_tokens: 100_000, ..Usage::default() };
    let at = |service_tier| {
        let more = types::usage::More { service_tier, ..types::usage::More::default() };
        cost(&gpt, Usage { more, ..usage })
    };
    assert_eq!(at(ServiceTier::Standard), "2.25");
    assert_eq!(at(ServiceTier::Flex), "1.125");
    assert_eq!(at(ServiceTier::Priority), "4.50");
    let asks = types::price::Asks { tier: ServiceTier::Priority, ..types::price::Asks::default() };
    assert_eq!(gpt.bound(1_000_000, 100_000, asks).to_string(), "4.50");
    assert_eq!(gpt.per_search, Some(Money::parse("0.01").unwrap()));
    let sound = price("openai", "gpt-4o-audio-preview-2025-06-03").unwrap().rates;
    assert_eq!(sound.audio_input.map(Rate::per_million).as_deref(), Some("40.00"));
}
