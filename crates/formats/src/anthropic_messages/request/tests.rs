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

#[test]
fn an_edit_changes_nothing_else() {
    let edits = Edits { model: "claude-x", output_cap: Some(9), ..Edits::default() };
    let body = "{ \"x\" : 1e2 ,\t\"max_tokens\" : 50,\"model\":\"a/b\",\"messages\":[ ],\"y\":\"\\u00e9\"}\n";
    assert_eq!(patched(body, &edits), body.replace("a/b", "claude-x").replace("50", "9"));
}

#[test]
fn a_cap_goes_where_the_client_put_its_own() {
    let edits = Edits { model: "m", output_cap: Some(9), ..Edits::default() };
    let of = |cap: &str| patched(&format!(r#"{{"model":"m","messages":[]{cap}}}"#), &edits);
    assert_eq!(of(""), r#"{"max_tokens":9,"model":"m","messages":[]}"#);
    assert_eq!(of(r#","max_tokens":null"#), r#"{"model":"m","messages":[],"max_tokens":9}"#);
    assert_eq!(of(r#","max_tokens":9"#), r#"{"model":"m","messages":[],"max_tokens":9}"#);
}

#[test]
fn counting_is_given_no_cap() {
    let operation = Operation::CountTokens;
    let edits = Edits { model: "m", output_cap: Some(9), operation, ..Edits::default() };
    assert_eq!(patched(r#"{"model":"x","messages":[]}"#, &edits), r#"{"model":"m","messages":[]}"#);
}

#[test]
fn a_request_that_needs_no_edit_is_shared() {
    let raw = Bytes::from_static(br#"{"model":"m","messages":[],"stream":true}"#);
    let head = read_head(&raw).unwrap();
    let edits = Edits { model: "m", stream: true, request_usage: true, ..Edits::default() };
    assert_eq!(patch(&raw, &head, &edits).as_ptr(), raw.as_ptr());
}

#[test]
fn an_estimate_grows_with_what_is_said() {
    let of = |messages: &str| {
        count_estimate(format!(r#"{{"model":"m","messages":[{messages}]}}"#).as_bytes()).unwrap()
    };
    let short = of(r#"{"role":"user","content":"Hello, Claude"}"#);
    assert!((5..20).contains(&short), "{short}");
    let image = of(
        r#"{"role":"user","content":[{"type":"image","source":{"type":"url","url":"https://x/y.png"}}]}"#,
    );
    assert!(image > 1_000, "{image}");
    let body = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"name":"f","input_schema":{"type":"object"}}]}"#;
    assert!(count_estimate(body.as_bytes()).unwrap() > 350);
    assert!(count_estimate(br#"{"model":"m"}"#).is_err());
}
