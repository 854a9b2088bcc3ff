use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::vendor;

#[test]
#[expect(clippy::disallowed_methods, reason = "a test reads its own source, and nothing waits")]
fn every_file_is_a_family() {
    for file in FILES {
        toml::from_str::<Family>(file).unwrap_or_else(|error| panic!("{error}\n{file}"));
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../catalog/families");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let names: BTreeSet<String> = families().iter().map(|family| family.name.clone()).collect();
    assert_eq!(files, names, "a file is called as its family");
    assert_eq!(families().len(), FILES.len());
}

#[test]
fn a_family_says_where_and_when_it_is_known_from() {
    for family in families() {
        let name = &family.name;
        assert!(!family.evidence.is_empty() && !family.examples.is_empty(), "{name}");
        assert!(family.evidence.iter().all(|link| link.starts_with("https://")), "{name}");
        let date: Vec<&str> = family.as_of.split('-').collect();
        assert_eq!(date.iter().map(|part| part.len()).collect::<Vec<_>>(), [4, 2, 2], "{name}");
        let rows = family.vendors.iter().chain(&family.owner);
        for row in rows {
            assert!(vendor(row).is_some(), "{name}: no row {row}");
        }
    }
}

#[test]
fn each_example_is_of_its_own_family_and_of_no_other() {
    for family in families() {
        let here = family.vendors.first().map_or("openai-compatible", String::as_str);
        for example in &family.examples {
            assert_eq!(super::family(here, example).unwrap().name, family.name, "{example}");
            let bare = example.rsplit('/').next().unwrap();
            let others = families().iter().filter(|other| !other.fallback && other.has(bare));
            let others: Vec<&str> = others.map(|other| other.name.as_str()).collect();
            let own: &[&str] = if family.fallback { &[] } else { &[&family.name] };
            assert_eq!(others, own, "{example}");
        }
    }
}

#[test]
fn names_are_told_apart_where_they_begin_alike() {
    let name = |vendor: &str, model: &str| family(vendor, model).map(|family| family.name.as_str());
    for (model, wanted) in [
        ("claude-sonnet-4-6", Some("claude-4-6")),
        ("claude-sonnet-5", Some("claude-5")),
        ("claude-sonnet-5-5", Some("claude-5-5")),
        ("Anthropic/Claude-Opus-5.5", Some("claude-5-5")),
        ("us.anthropic.claude-opus-4-5-20251101-v1:0", Some("claude-4-5")),
        ("claude-zeta-9", Some("claude-newest")),
        ("gpt-5", Some("gpt-5")),
        ("gpt-5-2025-08-07", Some("gpt-5")),
        ("gpt-5.2", Some("gpt-5-2")),
        ("gpt-5.2-pro", Some("gpt-pro")),
        ("gpt-6-astra", Some("gpt-6")),
        ("gemini-9-omega", Some("gemini-newest")),
        ("qwen3-32b", None),
        ("m", None),
        ("", None),
    ] {
        assert_eq!(name("openrouter", model), wanted, "{model}");
    }
    assert_eq!(name("deepseek", "deepseek-chat"), Some("deepseek"));
    assert_eq!(name("vllm", "deepseek-chat"), None, "another server may do more");
}

#[test]
fn limits_are_those_of_the_owners_api() {
    assert_eq!(limits("anthropic", "claude-sonnet-4-5"), (Some(200_000), Some(64_000)));
    assert_eq!(limits("openrouter", "anthropic/claude-sonnet-4.5"), (None, None));
    assert_eq!(limits("openai", "gpt-4o"), (Some(128_000), Some(16_384)));
    assert_eq!(limits("openai", "something"), (None, None));
}

#[test]
fn a_pattern_matches_as_it_reads_and_no_name_takes_long() {
    let yes =
        [("a*c", "abbc"), ("*", ""), ("*b*", "abc"), ("a?c", "abc"), ("**a", "a"), ("a*", "a")];
    for (pattern, name) in yes {
        assert!(matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
    }
    for (pattern, name) in [("a*c", "abcd"), ("a?c", "ac"), ("", "a"), ("*ab", "aab "), ("b", "")] {
        assert!(!matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
    }
    // Steps that grew with a power of the stars would not end.
    let pattern = "*a".repeat(16) + "*b";
    assert!(!matches(pattern.as_bytes(), "a".repeat(20_000).as_bytes()));
    assert!(family("anthropic", "claude-sonnet-4-5").is_some());
    assert!(family("anthropic", &format!("claude-{}", "x".repeat(NAME_BYTES_MAX))).is_none());
}
