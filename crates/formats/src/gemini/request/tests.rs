mod crossing;
mod golden;
mod head;
mod properties;

use super::*;

fn patched(body: &str, edits: &Edits<'_>) -> String {
    let raw = Bytes::from(body.to_owned());
    let head = read_head(&raw).unwrap();
    String::from_utf8(patch(&raw, &head, edits).to_vec()).unwrap()
}

const CAPPED: Edits<'static> = Edits {
    model: "up",
    output_cap: Some(9),
    stream: false,
    request_usage: false,
    logprobs: false,
    continues: false,
    operation: Operation::Chat,
    output_max: None,
    quirks: None,
};

#[test]
fn a_cap_goes_where_the_client_put_its_own() {
    let of = |config: &str| patched(&format!(r#"{{ "contents":[]{config} }}"#), &CAPPED);
    assert_eq!(of(""), r#"{"generationConfig":{"maxOutputTokens":9}, "contents":[] }"#);
    for (given, expected) in [
        (r#", "generationConfig" : { }"#, r#", "generationConfig" : {"maxOutputTokens":9 }"#),
        (r#","generationConfig":null"#, r#","generationConfig":{"maxOutputTokens":9}"#),
        (
            r#","generation_config":{"topK":1}"#,
            r#","generation_config":{"maxOutputTokens":9,"topK":1}"#,
        ),
        (
            r#","generationConfig":{"x":1,"maxOutputTokens": 50}"#,
            r#","generationConfig":{"x":1,"maxOutputTokens": 9}"#,
        ),
        (
            r#","generation_config":{"max_output_tokens":null}"#,
            r#","generation_config":{"max_output_tokens":9}"#,
        ),
        (
            r#","generationConfig":{"maxOutputTokens":9}"#,
            r#","generationConfig":{"maxOutputTokens":9}"#,
        ),
    ] {
        assert_eq!(of(given), format!(r#"{{ "contents":[]{expected} }}"#));
    }
}

#[test]
fn a_request_that_needs_no_edit_is_shared() {
    let raw = Bytes::from_static(br#"{"contents":[],"generationConfig":{"maxOutputTokens":9}}"#);
    let head = read_head(&raw).unwrap();
    assert_eq!(patch(&raw, &head, &CAPPED).as_ptr(), raw.as_ptr());
}

#[test]
fn counting_is_given_no_cap_and_the_targets_model() {
    let edits = Edits { operation: Operation::CountTokens, ..CAPPED };
    assert_eq!(patched(r#"{"contents":[]}"#, &edits), r#"{"contents":[]}"#);
    let whole = r#"{"generateContentRequest":{"contents":[], "model" : "models/x"}}"#;
    assert_eq!(patched(whole, &edits), whole.replace("models/x", "models/up"));
    assert_eq!(
        patched(r#"{"model":"x","contents":[]}"#, &edits),
        r#"{"model":"models/up","contents":[]}"#
    );
}

#[test]
fn an_estimate_grows_with_what_is_said() {
    let of = |parts: &str| {
        count_estimate(format!(r#"{{"contents":[{{"parts":[{parts}]}}]}}"#).as_bytes()).unwrap()
    };
    let short = of(r#"{"text":"Hello, Gemini"}"#);
    assert!((5..20).contains(&short), "{short}");
    assert!(of(r#"{"inlineData":{"mimeType":"image/png","data":"AAAA"}}"#) > 1_000);
    assert!(count_estimate(b"{}").is_err());
}
