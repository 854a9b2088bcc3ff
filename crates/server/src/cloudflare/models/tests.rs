use storage::budgets::Origin;
use types::Timestamp;

use super::*;

fn models(names: &[&str]) -> Vec<Arc<Model>> {
    let model = |name: &&str| {
        Arc::new(Model {
            name: (*name).to_owned(),
            provider: "p".to_owned(),
            upstream_model: "m".to_owned(),
            path: None,
            sha256: None,
            prices: Vec::new(),
            output_tokens_max: None,
            context_tokens: Some(8_192),
            origin: Origin::Api,
            version: 1,
            created_at: Timestamp(0),
        })
    };
    names.iter().map(model).collect()
}

#[test]
fn pages_are_of_what_was_searched_for() {
    let models = models(&["p/llama-1", "p/llama-2", "p/qwen", "p/Llama-3"]);
    let names = |text: &str| {
        let page = query(text).unwrap().page_of(&models);
        let list = page["result"].as_array().unwrap().clone();
        let names = list.iter().map(|model| model["name"].as_str().unwrap().to_owned());
        (names.collect::<Vec<_>>().join(" "), page["result_info"]["total_count"].clone())
    };
    assert_eq!(names("search=llama&per_page=2"), ("p/llama-1 p/llama-2".to_owned(), 3.into()));
    assert_eq!(names("search=llama&per_page=2&page=2"), ("p/Llama-3".to_owned(), 3.into()));
    assert_eq!(names("page=9").0, "");
    assert_eq!(names("").1, 4);
}

#[test]
fn a_page_that_cannot_be_is_refused() {
    for text in ["per_page=0", "per_page=1001", "page=0", "page=x"] {
        assert!(query(text).is_err(), "{text}");
    }
}
