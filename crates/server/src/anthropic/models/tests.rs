use storage::budgets::Origin;

use super::*;

fn named(names: &[&str]) -> Vec<Arc<Model>> {
    let model = |name: &&str| Model {
        name: (*name).to_owned(),
        provider: "p".to_owned(),
        upstream_model: (*name).to_owned(),
        path: None,
        sha256: None,
        prices: Vec::new(),
        output_tokens_max: Some(8_192),
        context_tokens: Some(200_000),
        origin: Origin::Api,
        version: 0,
        created_at: Timestamp(0),
    };
    names.iter().map(|name| Arc::new(model(name))).collect()
}

fn shown(query: &str) -> String {
    let page = page_of(query).unwrap().of(&named(&["a", "b", "c", "d"]));
    let data = page["data"].as_array().unwrap();
    let ids: String = data.iter().map(|model| model["id"].as_str().unwrap()).collect();
    let id = |name: &str| page[name].as_str().unwrap_or("-").to_owned();
    format!("{ids} {} {}..{}", page["has_more"], id("first_id"), id("last_id"))
}

#[test]
fn a_list_is_paged_through_both_ways() {
    assert_eq!(shown(""), "abcd false a..d");
    assert_eq!(shown("limit=2"), "ab true a..b");
    assert_eq!(shown("limit=2&after_id=b"), "cd false c..d");
    assert_eq!(shown("limit=2&after_id=d"), " false -..-");
    assert_eq!(shown("limit=2&before_id=d"), "bc true b..c");
    assert_eq!(shown("limit=2&before_id=c"), "ab false a..b");
    assert_eq!(shown("beta=true"), "abcd false a..d");
}

#[test]
fn a_page_has_one_to_a_thousand_models() {
    for query in ["limit=0", "limit=1001", "limit=x", "limit=-1"] {
        assert_eq!(page_of(query).unwrap_err().param.as_deref(), Some("limit"), "{query}");
    }
    assert!(page_of("limit=1000").is_ok());
}

#[test]
fn times_are_written_as_the_sdks_read_them() {
    for (seconds, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_399, "2000-02-28T23:59:59Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (951_868_800, "2000-03-01T00:00:00Z"),
        (1_735_689_599, "2024-12-31T23:59:59Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
        (-1, "1969-12-31T23:59:59Z"),
    ] {
        assert_eq!(rfc3339(Timestamp::from_millis(seconds * 1_000)), text);
    }
}
