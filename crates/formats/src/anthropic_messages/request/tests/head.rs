//! The head, and what is billed beyond text.

use insta::assert_snapshot;
use types::CacheWrites;
use types::call::ModelHead;

use super::super::{parse, read_head};

fn head(body: &str) -> ModelHead {
    read_head(body.as_bytes()).unwrap()
}

/// The head of a request with this much more in it.
fn with(fields: &str) -> ModelHead {
    head(&format!(r#"{{"model":"m","max_tokens":9,"messages":[],{fields}}}"#))
}

/// Media and surcharge of a user's message of these blocks.
fn of(blocks: &str) -> (u32, Option<&'static str>) {
    let messages = format!(r#"[{{"role":"user","content":[{blocks}]}}]"#);
    let head = head(&format!(r#"{{"model":"m","messages":{messages}}}"#));
    (head.media, head.surcharge)
}

#[test]
fn the_head_has_what_stages_need() {
    let body = r#" {"messages":[{"role":"user","content":[{"type":"text","text":"x"},{"type":"image","source":{}}]}],
        "model" : "a/b", "max_tokens":0, "stream":true}"#;
    let head = head(body);
    assert_eq!((head.model.as_str(), head.stream, head.output_cap), ("a/b", true, Some(0)));
    assert_eq!((head.choices, head.include_usage, head.media), (1, true, 1));
    assert_eq!((head.surcharge, head.cache_writes), (None, CacheWrites::Unmarked));
    assert_eq!(head.body_bytes, u64::try_from(body.len()).unwrap());
    assert_eq!(&body[head.spans.model.unwrap()], r#""a/b""#);
    assert_eq!(&body[head.spans.output_cap.unwrap()], "0");
    assert_eq!((head.spans.stream_options, head.spans.insert_at), (None, 2));
    assert_eq!(with(r#""stream":null"#).output_cap, Some(9));
}

#[test]
fn text_in_any_form_has_no_surcharge() {
    let plain = r#"{"type":"text","text":"x","citations":[{"type":"char_location"}]},
        {"type":"thinking","thinking":"","signature":"s"},{"type":"redacted_thinking","data":"d"},
        {"type":"tool_use","id":"t","name":"f","input":{"type":"image","source":1},"caller":{"type":"direct"}},
        {"type":"tool_result","tool_use_id":"t"},{"type":"tool_result","content":"x"},
        {"type":"tool_result","content":[{"type":"text","text":"x"}]},
        {"type":"search_result","source":"https://x","content":[{"type":"text","text":"x"}],"citations":{"enabled":false}},
        {"type":"document","source":{"type":"text","data":"x"},"citations":null},
        {"type":"document","source":{"type":"content","content":"x"}}"#;
    assert_eq!(of(plain), (0, None));
    let claude_code = with(
        r#""system":[{"type":"text","text":"x"}],"metadata":{"user_id":"u"},"thinking":{"type":"adaptive"},
        "context_management":{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]},
        "output_config":{"effort":"high"},"service_tier":"auto","speed":"standard","diagnostics":{},
        "temperature":1,"top_p":1,"top_k":1,"stop_sequences":[],"tool_choice":{"type":"auto"},
        "tools":[{"name":"f","input_schema":{"type":"image"}},{"type":"bash_20250124","name":"bash"},{"type":null}]"#,
    );
    assert_eq!((claude_code.media, claude_code.surcharge), (0, None));
}

#[test]
fn media_are_found_however_deep_they_stand() {
    const IMAGE: &str = r#"{"type":"image","source":{"type":"url","url":"u"}}"#;
    assert_eq!(of(&format!("{IMAGE},{IMAGE}")), (2, None));
    assert_eq!(of(&format!(r#"{{"type":"tool_result","content":[{IMAGE}]}}"#)), (1, None));
    assert_eq!(of(&format!(r#"{{"content":[{IMAGE}],"type":"tool_result"}}"#)), (1, None));
    let inside =
        format!(r#"{{"type":"document","source":{{"type":"content","content":[{IMAGE}]}}}}"#);
    assert_eq!(of(&inside), (1, None));
    assert_eq!(of(&format!(r#"{{"type":"tool_result","content":[{inside}]}}"#)), (1, None));
    assert_eq!(of(&format!(r#"{{"type":"search_result","content":[{IMAGE}]}}"#)), (1, None));
    assert_eq!(of(r#"{"\u0074ype":"im\u0061ge"}"#).0, 1);
    assert_eq!(with(&format!(r#""system":[{IMAGE}]"#)).media, 1);
    let mut deep = IMAGE.to_owned();
    for _ in 0..10_000 {
        deep = format!(r#"{{"type":"tool_result","content":[{deep}]}}"#);
    }
    assert_eq!(of(&deep), (1, Some("content")));
}

#[test]
fn a_part_whose_tokens_nobody_can_count_is_named() {
    for source in [
        r#"{"type":"base64","media_type":"application/pdf","data":""}"#,
        r#"{"type":"url","url":"https://x"}"#,
        r#"{"type":"file","file_id":"f"}"#,
        r#"{"type":"hologram"}"#,
        "{}",
        r#"{"type":null}"#,
        r#"{"type":"text","data":"x","pages":9}"#,
    ] {
        let document = format!(r#"{{"type":"document","source":{source}}}"#);
        assert_eq!(of(&document), (1, Some("document")), "{source}");
    }
    assert_eq!(of(r#"{"type":"document"}"#), (1, Some("document")));
    for unknown in [
        r#"{"text":"x"}"#,
        r#"{"type":null,"text":"x"}"#,
        r#"{"type":"container_upload","file_id":"f"}"#,
        r#"{"type":"web_search_tool_result","content":[]}"#,
        r#"{"type":"server_tool_use"}"#,
        r#"{"type":"compaction"}"#,
        r#"{"type":"tool_reference","tool_name":"f"}"#,
        r#"{"type":"Text","text":"x"}"#,
        r#"{"type":"text","text":"x","image_url":{"url":"u"}}"#,
        r#"{"type":"text","text":"x","source":{"type":"url"}}"#,
        r#"{"type":"tool_result","content":"x","source":{"type":"url"}}"#,
        r#"{"type":"image","source":{},"content":[{"type":"image"}]}"#,
        r#"{"type":"document","source":{"type":"text"},"content":[{"type":"image"}]}"#,
        r#"{"type":"image","source":{},"video":"v"}"#,
    ] {
        assert_eq!(of(unknown), (1, Some("content")), "{unknown}");
    }
    let cited = r#"{"type":"document","source":{"type":"text","data":"a. b."},"citations":{"enabled":true}}"#;
    assert_eq!(of(cited), (0, Some("citations")));
    let unknown =
        head(r#"{"model":"m","messages":[{"role":"user","content":"x","attachments":[1]}]}"#);
    assert_eq!(unknown.surcharge, Some("messages"));
}

#[test]
fn what_is_billed_by_other_rates_is_named() {
    let shown: Vec<String> = [
        r#""service_tier":"priority""#,
        r#""speed":"fast""#,
        r#""inference_geo":"us""#,
        r#""container":"c""#,
        r#""mcp_servers":[{}]"#,
        r#""fallbacks":"default""#,
        r#""fallback_credit_token":"t""#,
        r#""compaction":{}"#,
        r#""thread":{"type":"create"}"#,
        r#""context_management":{"edits":[{"type":"compact_20260112"}]}"#,
        r#""context_management":{"edits":[{"type":"clear_x"},{}]}"#,
        r#""context_management":7"#,
        r#""n":5"#,
        r#""tools":[{"name":"f"},{"type":"web_search_20260318"}]"#,
        r#""tools":[{"type":"code_execution_20260521"}]"#,
        r#""tools":[{"type":"mcp_toolset"}]"#,
        r#""tools":[{"type":"computer_toolset_20260801"}]"#,
        r#""speed":null,"mcp_servers":[],"sparkle":null,"context_management":null,"tools":null"#,
    ]
    .iter()
    .map(|field| format!("{field}: {}", with(field).surcharge.unwrap_or("-")))
    .collect();
    assert_snapshot!(shown.join("\n"), @r#"
    "service_tier":"priority": service_tier
    "speed":"fast": -
    "inference_geo":"us": inference_geo
    "container":"c": container
    "mcp_servers":[{}]: mcp_servers
    "fallbacks":"default": fallbacks
    "fallback_credit_token":"t": fallback_credit_token
    "compaction":{}: compaction
    "thread":{"type":"create"}: thread
    "context_management":{"edits":[{"type":"compact_20260112"}]}: context_management
    "context_management":{"edits":[{"type":"clear_x"},{}]}: context_management
    "context_management":7: context_management
    "n":5: unknown fields
    "tools":[{"name":"f"},{"type":"web_search_20260318"}]: tools
    "tools":[{"type":"code_execution_20260521"}]: tools
    "tools":[{"type":"mcp_toolset"}]: tools
    "tools":[{"type":"computer_toolset_20260801"}]: tools
    "speed":null,"mcp_servers":[],"sparkle":null,"context_management":null,"tools":null: -
    "#);
}

#[test]
fn text_that_comes_with_tools_and_schemas_is_counted() {
    let body = |fields: &str| format!(r#"{{"model":"m","messages":[]{fields}}}"#);
    let added = |fields: &str| {
        let body = body(fields);
        head(&body).body_bytes - u64::try_from(body.len()).unwrap()
    };
    assert_eq!(added(""), 0);
    assert_eq!(added(r#","tools":[]"#), 0);
    assert_eq!(added(r#","tools":[{"name":"f"},{"name":"g"}]"#), 1_024);
    assert_eq!(added(r#","tools":[{"type":"computer_20251124","name":"computer"}]"#), 3_072);
    assert_eq!(added(r#","output_config":{"format":{}}"#), 1_024);
}

#[test]
fn every_mark_for_the_cache_is_seen() {
    let of = |mark: &str| {
        let head = with(&format!(r#""system":[{{"type":"text","text":"x",{mark}}}]"#));
        (head.cache_writes, head.surcharge)
    };
    let unusual = (CacheWrites::Hour, Some("cache_control"));
    let minutes = (CacheWrites::Minutes, None);
    assert_eq!(of(r#""cache_control":{"type":"ephemeral"}"#), minutes);
    assert_eq!(of(r#""cache_control" : {"ttl":"5m","type":"ephemeral","scope":"x"}"#), minutes);
    assert_eq!(
        of(r#""Cache_Control":{"type":"ephemeral"}"#),
        (CacheWrites::Minutes, Some("content"))
    );
    assert_eq!(of(r#""cache_control":null"#), (CacheWrites::Unmarked, None));
    assert_eq!(of(r#""cache_control":{"type":"ephemeral","ttl":"1h"}"#), (CacheWrites::Hour, None));
    assert_eq!(of(r#""cache_control":{"type":"ephemeral","ttl":"2h"}"#), unusual);
    assert_eq!(of(r#""cache_control":{"type":"ephemeral","ttl":"5m","ttl":"1h"}"#), unusual);
    assert_eq!(of(r#""cache_control":{"type":"ephemeral","TTL":"1h"}"#), unusual);
    assert_eq!(of(r#""cache_control":{"type":"eternal"}"#), unusual);
    assert_eq!(of(r#""cache_control":7"#), unusual);
    assert_eq!(of(r#""cache_contro\u006c":{"type":"ephemeral"}"#), unusual);
    assert_eq!(of(r#""cache\u005Fcontrol":{"type":"ephemeral"}"#), unusual);
    let text = r#""title":"cache_control\": {\"ttl\":\"1h\"} \\u0061 \u00e9 \u003c \\\\\\u0061""#;
    assert_eq!(of(text), (CacheWrites::Unmarked, None));
    let deep =
        with(r#""tools":[{"name":"f","x":[{"cache_control":{"type":"ephemeral","ttl":"1h"}}]}]"#);
    assert_eq!((deep.cache_writes, deep.surcharge), (CacheWrites::Hour, None));
    let top = with(r#""cache_control":{"type":"ephemeral"},"system":"cache_control\":7""#);
    assert_eq!(top.cache_writes, CacheWrites::Minutes);
}

#[test]
fn wrong_fields_are_named() {
    let cases = [
        "",
        "[]",
        r#"{"messages":[]}"#,
        r#"{"model":"","messages":[]}"#,
        r#"{"model":"m"}"#,
        r#"{"model":"m","messages":"x"}"#,
        r#"{"model":"m","messages":[1]}"#,
        r#"{"model":"m","messages":[{"content":1}]}"#,
        r#"{"model":"m","messages":[{"content":["x"]}]}"#,
        r#"{"model":"m","messages":[{"content":"x","content":[{"type":"image"}]}]}"#,
        r#"{"model":"m","messages":[{"content":"x","Content":[{"type":"image"}]}]}"#,
        r#"{"model":"m","messages":[{"content":[{"type":"text","type":"image"}]}]}"#,
        r#"{"model":"m","messages":[{"content":[{"type":"text","Type":"image"}]}]}"#,
        r#"{"model":"m","messages":[{"content":[{"type":"document","source":{"type":"text","type":"url"}}]}]}"#,
        r#"{"model":"m","messages":[{"content":[{"type":"tool_result","content":7}]}]}"#,
        r#"{"model":"m","messages":[],"system":{}}"#,
        r#"{"model":"m","messages":[],"tools":{}}"#,
        r#"{"model":"m","messages":[],"tools":[{"type":"custom","type":"web_search"}]}"#,
        r#"{"model":"m","messages":[],"model":"other"}"#,
        r#"{"model":"m","messages":[],"m\u0061x_tokens":1,"max_tokens":2}"#,
        r#"{"model":"m","messages":[],"Speed":"fast"}"#,
        r#"{"model":"m","messages":[],"max_to\u212aens":9}"#,
        r#"{"model":"m","messages":[{"content":[{"type":"text","\u017fource":{"type":"url"}}]}]}"#,
        r#"{"model":"m","messages":[],"max_tokens":-1}"#,
        r#"{"model":"m","messages":[],"stream":"yes"}"#,
        r#"{"model":"m","messages":[],"billing_policy":{}}"#,
        r#"{"model":"m","messages":[],"user_profile_id":"u"}"#,
    ];
    let shown: Vec<String> = cases
        .iter()
        .map(|body| {
            let failure = read_head(body.as_bytes()).unwrap_err();
            let param = failure.param.as_deref().unwrap_or("-");
            format!("{} {param}: {}", failure.code, failure.message)
        })
        .collect();
    assert_snapshot!(shown.join("\n"), @r#"
    invalid_request -: the body is not a valid JSON object: it ends too early (line 1, column 0)
    invalid_request -: the body is not a valid JSON object: it can't be parsed (line 1, column 0)
    invalid_request model: missing required parameter: 'model'
    invalid_request model: 'model' is empty: name a model
    invalid_request messages: missing required parameter: 'messages'
    invalid_request messages: invalid type for 'messages': expected an array of objects
    invalid_request messages: invalid value for 'messages': expected messages, each with a string or a list of blocks as its content (invalid type: integer `1`, expected a message)
    invalid_request messages: invalid value for 'messages': expected messages, each with a string or a list of blocks as its content (invalid type: integer `1`, expected a string or a list of blocks)
    invalid_request messages: invalid value for 'messages': expected messages, each with a string or a list of blocks as its content (invalid type: string "x", expected a block)
    invalid_request messages: invalid value for 'messages': expected messages, each with a string or a list of blocks as its content (duplicate field `content`)
    invalid_request messages: invalid value for 'messages': expected messages, each with a string or a list of blocks as its content ('content' is spelt in other letters)
    invalid_request messages: invalid value for 'messages': expected messages, each with a string or a list of blocks as its content (duplicate field `type`)
    invalid_request messages: invalid value for 'messages': expected messages, each with a string or a list of blocks as its content ('type' is spelt in other letters)
    invalid_request messages: invalid value for 'messages': expected messages, each with a string or a list of blocks as its content (duplicate field `type`)
    invalid_request messages: invalid value for 'messages': expected messages, each with a string or a list of blocks as its content (invalid type: integer `7`, expected a string or a list of blocks)
    invalid_request system: invalid value for 'system': expected a string or a list of text blocks (invalid type: map, expected a string or a list of blocks)
    invalid_request tools: invalid value for 'tools': expected a list of tools (invalid type: map, expected a list of tools)
    invalid_request tools: invalid value for 'tools': expected a list of tools (duplicate field `type`)
    invalid_request model: 'model' is given twice
    invalid_request max_tokens: 'max_tokens' is given twice
    invalid_request Speed: 'Speed' is no field, and some providers take it for 'speed': write that
    invalid_request max_toKens: 'max_toKens' is no field, and some providers take it for 'max_tokens': write that
    invalid_request messages: invalid value for 'messages': expected messages, each with a string or a list of blocks as its content ('source' is spelt in other letters)
    invalid_request max_tokens: invalid value for 'max_tokens': expected a non-negative integer
    invalid_request stream: invalid value for 'stream': expected a boolean
    unsupported billing_policy: 'billing_policy' acts for somebody else, which no key here may: leave it out
    unsupported user_profile_id: 'user_profile_id' acts for somebody else, which no key here may: leave it out
    "#);
}

#[test]
fn a_long_value_is_not_repeated() {
    let body = format!(r#"{{"model":"m","messages":[{{"content":["{}"]}}]}}"#, "é".repeat(9_000));
    assert!(read_head(body.as_bytes()).unwrap_err().message.chars().count() < 400);
}

#[test]
fn millions_of_small_values_are_read_without_a_list_of_them() {
    let many = "{},".repeat(1_000_000);
    let body = format!(r#"{{"model":"m","messages":[{many}{{}}],"tools":[{many}{{}}]}}"#);
    assert_eq!(head(&body).surcharge, None);
    assert!(parse(body.as_bytes()).unwrap_err().message.contains("values"));
}

#[test]
fn depth_does_no_harm() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(with(&format!(r#""metadata":{deep}"#)).surcharge, None);
    let body = format!(r#"{{"model":"m","messages":{deep}}}"#);
    assert!(read_head(body.as_bytes()).is_err());
}
