use std::collections::BTreeSet;
use std::path::Path;

use ::http::header::{HeaderName, HeaderValue};

use super::*;
use crate::Provider;

/// What may be left out of a request with a report: the answer is still what was asked for.
const DROPPABLE: [&str; 17] = [
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "metadata",
    "parallel_tool_calls",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_retention",
    "repetition_penalty",
    "safety_identifier",
    "seed",
    "service_tier",
    "store",
    "top_k",
    "top_logprobs",
    "user",
    "verbosity",
];
/// What must be refused where a server does not take it.
const REFUSABLE: [&str; 6] =
    ["audio", "modalities", "n", "response_format", "tool_choice", "web_search_options"];

#[test]
#[expect(clippy::disallowed_methods, reason = "a test reads its own source, and nothing waits")]
fn every_file_is_a_row_and_every_row_is_read() {
    assert_eq!(vendors().len(), ROWS.len());
    for row in ROWS {
        toml::from_str::<Vendor>(row).unwrap_or_else(|error| panic!("{error}\n{row}"));
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vendors");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let names: BTreeSet<String> = vendors().iter().map(|vendor| vendor.name.clone()).collect();
    assert_eq!(files, names, "a file is called as its row");
}

#[test]
fn a_row_says_where_it_is_reached_and_where_that_is_known_from() {
    let mut variables = BTreeSet::new();
    for vendor in vendors() {
        let name = &vendor.name;
        assert!(!vendor.evidence.is_empty(), "{name}");
        assert!(vendor.evidence.iter().all(|link| link.starts_with("https://")), "{name}");
        match (&vendor.base_url, &vendor.base_url_form) {
            (Some(url), None) => {
                Provider::new("p", name, None, None).unwrap();
                let own = url.starts_with("http://127.0.0.1:");
                assert_eq!(own, vendor.local, "{name}: only this machine does without TLS");
                assert!(own || url.starts_with("https://"), "{name}");
            }
            (None, Some(_)) => assert!(!vendor.local, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
        // A variable that is there for other purposes would make a provider that nobody asked for.
        let variable = vendor.key_env.as_deref();
        assert!(!matches!(variable, Some("HF_TOKEN" | "GITHUB_TOKEN")), "{name}");
        assert!(variable.is_none_or(|variable| variables.insert(variable)), "{name}");
        assert!(!vendor.local || variable.is_none(), "{name}");
    }
}

#[test]
fn a_row_drops_only_what_the_answer_can_do_without() {
    for vendor in vendors() {
        for field in &vendor.quirks.drops {
            assert!(DROPPABLE.contains(&field.as_str()), "{}: {field}", vendor.name);
        }
        for field in &vendor.quirks.refuses {
            assert!(REFUSABLE.contains(&field.as_str()), "{}: {field}", vendor.name);
        }
        // The quirks that there are belong to chat completions.
        let chat = vendor.format().name() == "openai_chat";
        assert!(chat || vendor.quirks == Quirks::default(), "{}", vendor.name);
    }
}

#[test]
fn vendors_of_chat_completions_are_most() {
    for name in ["openai", "openai-compatible", "groq"] {
        assert_eq!(vendor(name).unwrap().format().name(), "openai_chat");
    }
    assert!(vendor("nobody").is_none());
    assert_eq!(vendor("openai").unwrap().key_env.as_deref(), Some("OPENAI_API_KEY"));
}

#[test]
fn anthropic_speaks_its_own_format_and_names_a_version() {
    let anthropic = vendor("anthropic").unwrap();
    assert_eq!(anthropic.format().name(), "anthropic_messages");
    assert_eq!(anthropic.auth, Auth::XApiKey);
    assert_eq!(anthropic.key_env.as_deref(), Some("ANTHROPIC_API_KEY"));
    assert!(anthropic.headers.contains_key("anthropic-version"));
}

#[test]
fn google_is_asked_in_its_own_format_by_either_door() {
    let (gemini, vertex) = (vendor("gemini").unwrap(), vendor("vertex").unwrap());
    assert_eq!((gemini.format().name(), gemini.auth), ("gemini", Auth::XGoogApiKey));
    assert_eq!((vertex.format().name(), vertex.auth), ("gemini", Auth::Bearer));
    // Its address names a project.
    assert_eq!(vertex.base_url, None);
}

#[test]
fn every_header_of_a_row_can_be_sent() {
    for (name, value) in vendors().iter().flat_map(|vendor| &vendor.headers) {
        assert_eq!(HeaderName::try_from(name).unwrap().as_str(), name);
        assert!(HeaderValue::from_str(value).is_ok(), "{name}");
    }
}
