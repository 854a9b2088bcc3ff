use storage::budgets::Origin;
use types::Timestamp;

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
        context_tokens: None,
        origin: Origin::Api,
        version: 0,
        created_at: Timestamp(0),
    };
    names.iter().map(|name| Arc::new(model(name))).collect()
}

fn shown(query: &str) -> String {
    let page: Page = serde_urlencoded::from_str(query).unwrap();
    let page = page.of(&named(&["p/a", "p/b", "p/c"]));
    let models = page["models"].as_array().unwrap();
    let names: Vec<&str> = models.iter().map(|model| model["name"].as_str().unwrap()).collect();
    format!("{} {}", names.join(","), page["nextPageToken"].as_str().unwrap_or("-"))
}

#[test]
fn a_list_is_paged_through() {
    assert_eq!(shown(""), "models/p/a,models/p/b,models/p/c -");
    assert_eq!(shown("pageSize=2"), "models/p/a,models/p/b p/b");
    assert_eq!(shown("pageSize=2&pageToken=p%2Fb"), "models/p/c -");
    assert_eq!(shown("pageSize=5000&key=x"), shown(""));
    assert_eq!(shown("pageSize=0"), shown(""));
    assert_eq!(shown("pageSize=3&pageToken=p%2Fc"), " -");
}

#[test]
fn a_model_has_the_limits_that_are_known() {
    let model = render(&named(&["p/a"])[0]);
    assert_eq!(model["outputTokenLimit"], 8_192);
    assert!(model.get("inputTokenLimit").is_none());
}
