use super::*;

fn usage(body: &str) -> Option<(u64, u64, u64, u64, u64)> {
    let raw: Box<RawValue> = serde_json::from_str(body).unwrap();
    let usage = usage_of(&raw)?;
    Some((
        usage.input_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
    ))
}

#[test]
fn each_dialect_of_usage_says_the_same() {
    let same = Some((1_000, 600, 0, 50, 20));
    for (whose, body) in [
        (
            "OpenAI",
            r#"{"prompt_tokens":1000,"completion_tokens":50,"total_tokens":1050,"prompt_tokens_details":{"cached_tokens":600},"completion_tokens_details":{"reasoning_tokens":20}}"#,
        ),
        (
            "DeepSeek",
            r#"{"prompt_tokens":1000,"completion_tokens":50,"total_tokens":1050,"prompt_cache_hit_tokens":600,"prompt_cache_miss_tokens":400,"completion_tokens_details":{"reasoning_tokens":20}}"#,
        ),
        (
            "Moonshot",
            r#"{"prompt_tokens":1000,"completion_tokens":50,"total_tokens":1050,"cached_tokens":600,"completion_tokens_details":{"reasoning_tokens":20}}"#,
        ),
        (
            "xAI",
            r#"{"prompt_tokens":1000,"completion_tokens":30,"total_tokens":1050,"prompt_tokens_details":{"cached_tokens":600},"completion_tokens_details":{"reasoning_tokens":20}}"#,
        ),
        (
            "Perplexity",
            r#"{"prompt_tokens":1000,"completion_tokens":50,"total_tokens":1050,"reasoning_tokens":20,"cached_tokens":600,"search_context_size":"low"}"#,
        ),
        (
            "Gemini by another name",
            r#"{"prompt_tokens":1000,"completion_tokens":30,"total_tokens":1050,"prompt_tokens_details":{"cached_tokens":600}}"#,
        ),
    ] {
        assert_eq!(usage(body), same, "{whose}");
    }
    let written = Some((1_000, 600, 300, 50, 0));
    for (whose, body) in [
        (
            "OpenAI",
            r#"{"prompt_tokens":1000,"completion_tokens":50,"prompt_tokens_details":{"cached_tokens":600,"cache_write_tokens":300}}"#,
        ),
        (
            "Moonshot",
            r#"{"prompt_tokens":1000,"completion_tokens":50,"cached_tokens":600,"cache_write_tokens":300}"#,
        ),
        (
            "a proxy before Anthropic",
            r#"{"prompt_tokens":1000,"completion_tokens":50,"cache_read_input_tokens":600,"cache_creation_input_tokens":300}"#,
        ),
    ] {
        assert_eq!(usage(body), written, "{whose}");
    }
}

#[test]
fn numbers_that_do_not_add_up_are_not_added() {
    let body = r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":99,"completion_tokens_details":{"reasoning_tokens":3}}"#;
    assert_eq!(usage(body), Some((10, 0, 0, 5, 3)));
    let huge = r#"{"prompt_tokens":18446744073709551615,"completion_tokens":18446744073709551615,"total_tokens":1,"reasoning_tokens":2}"#;
    assert_eq!(usage(huge), Some((u64::MAX, 0, 0, u64::MAX, 2)));
    assert_eq!(usage(r#"{"prompt_tokens":10}"#), None, "no bill is not a bill of nothing");
    assert_eq!(usage(r#"{"prompt_tokens":0,"completion_tokens":0}"#), Some((0, 0, 0, 0, 0)));
}

#[test]
fn a_usage_is_found_wherever_its_server_puts_it() {
    let usage = r#"{"prompt_tokens":3,"completion_tokens":1}"#;
    for chunk in [
        format!(r#"{{"choices":[],"usage":{usage}}}"#),
        format!(r#"{{"choices":[],"usage":null,"x_groq":{{"id":"r","usage":{usage}}}}}"#),
        format!(r#"{{"choices":[{{"index":0,"delta":{{}},"usage":{usage}}}]}}"#),
    ] {
        let read: Chunk<'_> = serde_json::from_str(&chunk).unwrap();
        assert_eq!(read.usage().map(|usage| usage.input_tokens), Some(3), "{chunk}");
    }
    let none: Chunk<'_> = serde_json::from_str(r#"{"choices":[],"x_groq":{"id":"r"}}"#).unwrap();
    assert_eq!(none.usage(), None);
}

#[test]
fn content_may_be_a_list_with_thinking() {
    let read = |body: &str| serde_json::from_str::<Option<Content>>(body).unwrap();
    let content = |thinking: &str, text: &str| {
        Some(Content { thinking: thinking.to_owned(), text: text.to_owned() })
    };
    assert_eq!(read("null"), None);
    assert_eq!(read(r#""caf\u00e9""#), content("", "café"));
    let parts = r#"[{"type":"thinking","thinking":[{"type":"text","text":"hm"},{"type":"text","text":"!"}]},{"type":"reference","reference_ids":[1]},{"type":"text","text":"yes"}]"#;
    assert_eq!(read(parts), content("hm!", "yes"));
    assert!(serde_json::from_str::<Option<Content>>("7").is_err());
}
