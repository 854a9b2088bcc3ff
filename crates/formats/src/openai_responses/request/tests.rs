use insta::{assert_json_snapshot, assert_snapshot};
use proptest::prelude::*;
use types::ErrorCode;
use types::conversation::ToolChoice;
use types::format::{Edits, Format};

use super::*;

mod properties;

fn refused(fields: &str) -> String {
    let body = format!(r#"{{"model":"m",{fields}}}"#);
    match parse_create(body.as_bytes()) {
        Ok(request) => panic!("accepted: {fields}: {request:?}"),
        Err(failure) => {
            format!("{} {}: {}", failure.code, failure.param.unwrap_or_default(), failure.message)
        }
    }
}

fn accepted(fields: &str) -> CreateResponse {
    let body = format!(r#"{{"model":"m",{fields}}}"#);
    match parse_create(body.as_bytes()) {
        Ok(request) => request,
        Err(failure) => panic!("{fields}: {failure}"),
    }
}

#[test]
fn the_smallest_request_is_stored() {
    let request = accepted(r#""input":"hi""#);
    assert!(request.store);
    assert!(!request.stream && !request.background);
    assert_eq!(request.tool_choice, ToolChoice::Auto);
    assert_json_snapshot!(request.input[0].value, @r#"
    {
      "type": "message",
      "role": "user",
      "content": [
        {
          "type": "input_text",
          "text": "hi"
        }
      ]
    }
    "#);
}

const NOT_OFFERED_CASES: &[&str] = &[
    r#""x":1"#,
    r#""input":7"#,
    r#""input":"x","input":"y""#,
    r#""input":"x","conversation":"conv_1""#,
    r#""input":"x","context_management":[{"type":"compaction"}]"#,
    r#""input":"x","prompt":{"id":"p"}"#,
    r#""input":"x","truncation":"auto""#,
    r#""input":"x","top_logprobs":3"#,
    r#""input":"x","store":false,"background":true"#,
    r#""input":"x","store":false,"tools":[{"type":"function","name":"f"},{"type":"mcp","server_label":"notes"}]"#,
    r#""input":"x","tools":[{"type":"web_search"}]"#,
    r#""input":"x","tools":[{"type":"function"}]"#,
    r#""input":"x","tools":[{"type":"function","name":"a b"}]"#,
    r#""input":"x","tools":[{"type":"mcp"}]"#,
    r#""input":"x","tools":[{"type":"mcp","server_label":"notes","server_url":"https://x"}]"#,
    r#""input":"x","tools":[{"type":"mcp","server_label":"notes","server_url":"holdfast:other"}]"#,
    r#""input":"x","tools":[{"type":"mcp","server_label":"notes","require_approval":"always"}]"#,
    r#""input":"x","tools":[{"type":"mcp","server_label":"notes","require_approval":{"never":{}}}]"#,
    r#""input":"x","tools":[{"type":"mcp","server_label":"notes","headers":{"a":"b"}}]"#,
    r#""input":"x","tool_choice":"required""#,
    r#""input":"x","tool_choice":{"type":"function","name":"f"}"#,
    r#""input":"x","tools":[{"type":"mcp","server_label":"n"}],"tool_choice":{"type":"mcp","server_label":"n"}"#,
    r#""input":"x","tool_choice":{"type":"allowed_tools"}"#,
    r#""input":"x","text":{"format":{"type":"json_schema","name":"s"}}"#,
    r#""input":"x","text":{"format":{"type":"grammar"}}"#,
    r#""input":"x","max_output_tokens":0"#,
    r#""input":"x","temperature":3"#,
    r#""input":"x","metadata":{"a":1}"#,
    r#""input":[1]"#,
    r#""input":[{}]"#,
    r#""input":[{"type":"computer_call"}]"#,
    r#""input":[{"role":"tool","content":"x"}]"#,
    r#""input":[{"role":"user"}]"#,
    r#""input":[{"role":"user","content":[{"type":"input_audio"}]}]"#,
    r#""input":[{"role":"user","content":[{"type":"input_text"}]}]"#,
    r#""input":[{"role":"user","content":[{"type":"input_image","file_id":"file_1"}]}]"#,
    r#""input":[{"type":"function_call","call_id":"c","name":"f"}]"#,
    r#""input":[{"type":"function_call_output","call_id":"c"}]"#,
    r#""input":[{"type":"item_reference"}]"#,
    r#""input":[{"type":"message","id":7,"role":"user","content":"x"}]"#,
];

#[test]
fn what_is_not_offered_is_named() {
    let shown: Vec<String> = NOT_OFFERED_CASES.iter().map(|fields| refused(fields)).collect();
    assert_snapshot!(shown.join("\n"), @r#"
    invalid_request input: missing required parameter: 'input'
    invalid_request input: invalid type for 'input': expected a string or an array, got a number
    invalid_request input: 'input' is given twice
    unsupported conversation: conversations are not offered yet: continue with previous_response_id
    unsupported context_management: compaction is not offered yet: send a shorter history
    unsupported prompt: stored prompts are not offered: send instructions and input
    unsupported truncation: 'auto' is not offered: a history that does not fit is an error, not cut
    unsupported top_logprobs: log probabilities are not offered
    unsupported background: a background response must be stored: leave 'store' out, or set it to true
    unsupported tools[1].type: tools that are run here need a stored response: leave 'store' out
    unsupported tools[0].type: tools of type 'web_search' are not offered here: use function or mcp
    invalid_request tools[0].name: missing required parameter: 'tools[0].name'
    invalid_request tools[0].name: a function's name has 1 to 64 letters, digits, '_' or '-'
    invalid_request tools[0].server_label: missing required parameter: 'tools[0].server_label'
    unsupported tools[0].server_url: only configured tool servers are offered: leave 'server_url' out, or set it to 'holdfast:notes'
    unsupported tools[0].server_url: only configured tool servers are offered: leave 'server_url' out, or set it to 'holdfast:notes'
    unsupported tools[0].require_approval: approvals are not offered yet: leave 'require_approval' out, or set it to 'never'
    unsupported tools[0].require_approval: approvals are not offered yet: leave 'require_approval' out, or set it to 'never'
    unsupported tools[0].headers: 'headers' is for remote servers, which are not offered yet
    invalid_request tool_choice: a tool must be called, but 'tools' is empty
    invalid_request tool_choice.name: function 'f' is not in 'tools'
    unsupported tool_choice.name: name one tool of the server: any of them can't be demanded
    unsupported tool_choice.type: tool choice of type 'allowed_tools' is not offered: use function or mcp
    invalid_request text.format.schema: missing required parameter: 'text.format.schema'
    unsupported text.format.type: format 'grammar' is not known: use text, json_object or json_schema
    invalid_request max_output_tokens: 'max_output_tokens' must be at least 1
    invalid_request temperature: 'temperature' must be between 0 and 2
    invalid_request metadata.a: invalid type for 'metadata.a': expected a string, got a number
    invalid_request input[0]: invalid type for 'input[0]': expected an object, got a number
    invalid_request input[0].type: missing required parameter: 'input[0].type'
    unsupported input[0].type: items of type 'computer_call' are not offered here
    invalid_request input[0].role: role 'tool' is not known: use user, assistant, system or developer
    invalid_request input[0].content: missing required parameter: 'input[0].content'
    unsupported input[0].content[0].type: content of type 'input_audio' is not offered here
    invalid_request input[0].content[0].text: missing required parameter: 'input[0].content[0].text'
    unsupported input[0].content[0].file_id: uploaded files are not offered yet: send the content itself
    invalid_request input[0].arguments: missing required parameter: 'input[0].arguments'
    invalid_request input[0].output: missing required parameter: 'input[0].output'
    invalid_request input[0].id: missing required parameter: 'input[0].id'
    invalid_request input[0].id: invalid type for 'input[0].id': expected a string, got a number
    "#);
}

#[test]
fn what_sdks_send_is_accepted() {
    let nothing = accepted(
        r#""input":"x","include":[],"tools":[],"conversation":null,"context_management":[]"#,
    );
    assert!(nothing.rest.is_empty());
    let codex = accepted(
        r#""instructions":"be","input":[
            {"type":"message","role":"developer","content":[{"type":"input_text","text":"d"}]},
            {"role":"user","content":"u"},
            {"type":"reasoning","summary":[{"type":"summary_text","text":"s"}],"encrypted_content":"e"},
            {"type":"message","role":"assistant","id":null,"status":"completed","phase":"commentary","content":[{"type":"output_text","text":"a","annotations":[],"logprobs":[]}]},
            {"type":"function_call","call_id":"c","name":"f","arguments":"{}"},
            {"type":"function_call_output","call_id":"c","output":[{"type":"input_text","text":"o"}]},
            {"id":"msg_1"}],
        "store":false,"stream":true,"tool_choice":"auto","parallel_tool_calls":true,
        "include":["reasoning.encrypted_content","web_search_call.action.sources"],"prompt_cache_key":"k",
        "client_metadata":{},"reasoning":{"effort":"low","summary":"auto"},"user":"u","service_tier":"auto","stream_options":{"include_obfuscation":false},"mystery":1"#,
    );
    let names: Vec<&str> = codex.rest.keys().map(String::as_str).collect();
    assert_eq!(names, ["client_metadata", "mystery"]);
    assert_eq!(codex.input.len(), 7);
    assert_eq!(codex.input[6].reference(), Some("msg_1"));
    assert_eq!(codex.input[3].id(), None);
}

/// What a target of `format` is asked, without the conversation, and what is named as dropped.
fn told(format: &dyn Format, fields: &str) -> String {
    let body = format!(r#"{{"model":"m","input":"x",{fields}}}"#);
    let asked = conversation(body.as_bytes()).unwrap();
    let rendered = format.render_request(&asked, &Edits { model: "m", ..Edits::default() });
    let rendered = rendered.unwrap();
    let mut body: Map<String, Value> = serde_json::from_slice(&rendered.body).unwrap();
    for known in ["model", "input", "messages", "store", "stream", "max_tokens"] {
        body.shift_remove(known);
    }
    format!("{} {:?}", Value::Object(body), rendered.dropped)
}

#[test]
fn every_field_that_is_taken_is_handed_on_or_named() {
    let fields = r#""prompt_cache_key":"k","safety_identifier":"s","user":"u","service_tier":"flex","metadata":{"a":"b"},"text":{"verbosity":"low"},"include":["reasoning.encrypted_content","web_search_call.action.sources"],"client_metadata":{"c":"d"},"prompt_cache_retention":"24h","reasoning":{"effort":"low","summary":"detailed","context":"turn","mode":"pro"},"max_tool_calls":3,"mystery":1"#;
    let formats: [&dyn Format; 3] =
        [&crate::OPENAI_RESPONSES, &crate::OPENAI_CHAT, &crate::ANTHROPIC_MESSAGES];
    let shown = formats.map(|format| told(format, fields));
    assert_snapshot!(shown.join("\n"), @r#"
    {"reasoning":{"effort":"low","summary":"detailed","context":"turn"},"text":{"verbosity":"low"},"client_metadata":{"c":"d"},"prompt_cache_retention":"24h","prompt_cache_key":"k","safety_identifier":"s","service_tier":"flex","user":"u","metadata":{"a":"b"},"include":["reasoning.encrypted_content"]} ["mystery", "include", "reasoning.mode"]
    {"reasoning_effort":"low","prompt_cache_retention":"24h","prompt_cache_key":"k","safety_identifier":"s","service_tier":"flex","user":"u","verbosity":"low","metadata":{"a":"b"}} ["reasoning.summary", "client_metadata", "mystery", "include", "reasoning.context", "reasoning.mode"]
    {"thinking":{"type":"adaptive","display":"summarized"},"output_config":{"effort":"low"}} ["client_metadata", "prompt_cache_retention", "mystery", "prompt_cache_key", "safety_identifier", "service_tier", "user", "verbosity", "metadata", "include", "reasoning.summary", "reasoning.context", "reasoning.mode"]
    "#);
    // What every answer has anyway is no loss.
    let usual = r#""include":["reasoning.encrypted_content"],"metadata":{},"stream_options":{"include_obfuscation":false}"#;
    assert_eq!(told(&crate::OPENAI_CHAT, usual), "{} []");
}

#[test]
fn tools_are_read_and_echoed_with_every_field() {
    let request = accepted(
        r#""input":"x","tool_choice":{"type":"mcp","server_label":"notes","name":"find_note"},"tools":[
            {"type":"function","name":"f","parameters":{"type":"object"},"strict":null},
            {"type":"mcp","server_label":"notes","server_url":"holdfast:notes","require_approval":"never","allowed_tools":{"tool_names":["find_note"],"read_only":true}}]"#,
    );
    assert_eq!(request.function_definitions().len(), 1);
    assert_eq!(request.tool_choice, ToolChoice::Named { name: "find_note".to_owned() });
    let mcp: Vec<_> = request.mcp_tools().collect();
    assert_eq!((mcp[0].server_label.as_str(), mcp[0].index), ("notes", 1));
    assert_json_snapshot!(request.tools_echo, @r#"
    [
      {
        "type": "function",
        "name": "f",
        "description": null,
        "parameters": {
          "type": "object"
        },
        "strict": true
      },
      {
        "type": "mcp",
        "server_label": "notes",
        "server_url": "holdfast:notes",
        "allowed_tools": {
          "tool_names": [
            "find_note"
          ],
          "read_only": true
        },
        "require_approval": "never"
      }
    ]
    "#);
}

#[test]
fn an_item_without_an_id_gets_one() {
    let item = read_item(json!({ "role": "user", "content": "x" }), "input[0]").unwrap();
    let item = item.with_id(|prefix| format!("{prefix}1"));
    assert_eq!(item.id(), Some("msg_1"));
    let again = item.clone().with_id(|_| "other".to_owned());
    assert_eq!(again, item);
}

#[test]
fn a_kept_message_has_its_text_as_a_part() {
    let kept = |item| read_item(item, "input[0]").unwrap().with_id(|_| "msg_1".to_owned()).value;
    let user = kept(json!({ "role": "user", "content": "x" }));
    assert_eq!(user["content"], json!([{ "type": "input_text", "text": "x" }]));
    let assistant = kept(json!({ "role": "assistant", "content": "y" }));
    let part = json!([{ "type": "output_text", "text": "y", "annotations": [] }]);
    assert_eq!(assistant["content"], part);
}

#[test]
fn the_head_is_read_in_one_pass() {
    let body = br#"{"input":[{"role":"user","content":[{"type":"input_image","image_url":"data:,"}]}],"model":"m","max_output_tokens":5,"stream":true}"#;
    let head = read_head(body).unwrap();
    assert_eq!((head.media, head.output_cap, head.stream), (1, Some(5), true));
    assert_eq!(read_head(br#"{"model":"m","input":"[x"}"#).unwrap().media, 0);
    assert!(read_head(br#"{"model":"m","model":"n"}"#).is_err());
}

fn plain(fields: &str) -> Option<ModelHead> {
    plain_head(format!(r#"{{"model":"m",{fields}}}"#).as_bytes()).unwrap()
}

#[test]
fn a_request_that_nothing_is_kept_of_is_one_plain_call() {
    for fields in [
        r#""input":"x","store":false"#,
        r#""store":false,"previous_response_id":null,"background":false,"conversation":null"#,
        r#""input":[{"type":"hologram"}],"store":false,"unknown":{"a":1}"#,
        r#""input":"x","store":false,"tools":[{"type":"web_search"},{"type":"custom","name":"p"}]"#,
        r#""input":[{"type":"mcp_call","id":"m"}],"store":false,"tools":[{"type":"mcp","server_url":"https://x"}]"#,
    ] {
        assert!(plain(fields).is_some(), "{fields}");
    }
    for fields in [
        r#""input":"x""#,
        r#""input":"x","store":null"#,
        r#""input":"x","store":true"#,
        r#""input":"x","store":false,"background":true"#,
        r#""input":"x","store":false,"previous_response_id":"resp_1""#,
        r#""input":"x","store":false,"conversation":"conv_1""#,
        r#""input":[{"type":"item_reference","id":"msg_1"}],"store":false"#,
        r#""input":"x","store":false,"tools":[{"type":"mcp","server_label":"notes"}]"#,
        // Calls of our own tool servers: no other server knows them.
        r#""input":[{"type":"mcp_call","id":"m"}],"store":false"#,
    ] {
        assert!(plain(fields).is_none(), "{fields}");
    }
    for fields in [r#""store":"no""#, r#""store":false,"store":true"#, r#""Store":false"#] {
        let body = format!(r#"{{"model":"m","input":"x",{fields}}}"#);
        assert!(plain_head(body.as_bytes()).is_err(), "{fields}");
    }
}

#[test]
fn what_the_operators_account_holds_is_out_of_reach() {
    for (fields, param) in [
        (r#""prompt":{"id":"pmpt_1"}"#, "prompt"),
        (
            r#""input":[{"role":"user","content":[{"type":"input_image","file_id":"file-1"}]}]"#,
            "file_id",
        ),
        (
            r#""input":[{"role":"user","content":[{"type":"input_file","File_Id":"file-1"}]}]"#,
            "file_id",
        ),
        (
            r#""input":[{"type":"function_call_output","call_id":"c","output":[{"type":"input_file","file_id":"f"}]}]"#,
            "file_id",
        ),
        (
            r#""tools":[{"type":"file_search","vector_store_ids":["vs_1"]}]"#,
            "tools[0].vector_store_ids",
        ),
        (r#""tools":[{"type":"code_interpreter","container":"cntr_1"}]"#, "tools[0].container"),
        (
            r#""tools":[{"type":"code_interpreter","container":{"type":"auto","file_ids":["f"]}}]"#,
            "tools[0].container",
        ),
        (r#""tools":[{"type":"mcp","connector_id":"connector_gmail"}]"#, "tools[0].connector_id"),
    ] {
        let body = format!(r#"{{"model":"m","store":false,{fields}}}"#);
        let failure = plain_head(body.as_bytes()).unwrap_err();
        assert_eq!((failure.code, failure.param.as_deref()), (ErrorCode::Unsupported, Some(param)));
    }
    for fields in [
        r#""prompt":null,"tools":[{"type":"code_interpreter","container":{"type":"auto"}}]"#,
        r#""tools":[{"type":"mcp","server_url":"https://x","connector_id":null}]"#,
        r#""input":[{"role":"user","content":[{"type":"input_image","file_id":null,"image_url":"data:,"}]}]"#,
    ] {
        assert!(plain(&format!(r#""store":false,{fields}"#)).is_some(), "{fields}");
    }
}

#[test]
fn what_nobody_can_bound_is_named() {
    let surcharge = |fields: &str| plain(&format!(r#""store":false,{fields}"#)).unwrap().surcharge;
    for (fields, name) in [
        (r#""service_tier":"priority""#, "service_tier"),
        (r#""prompt_cache_retention":"24h""#, "prompt_cache_retention"),
        (r#""cache_control":{"type":"ephemeral","ttl":"1h"}"#, "cache_control"),
        (r#""input":[{"role":"user","content":"x","cache_control":{"ttl":"1h"}}]"#, "input"),
        (
            r#""input":[{"role":"user","content":[{"type":"input_text","text":"x","cache_control":{"type":"ephemeral","ttl":"1h"}}]}]"#,
            "input",
        ),
        (
            r#""tools":[{"type":"function","name":"f","cache_control":{"ttl":"1h"}}]"#,
            "cache_control",
        ),
        (r#""instructions":[{"role":"user","content":[{"type":"input_file"}]}]"#, "instructions"),
        (r#""input":{"role":"user","content":[{"type":"input_file"}]}"#, "input"),
        (r#""context_management":[{"type":"compaction"}]"#, "context_management"),
        (r#""prompt_cache_options":{"ttl":"12h"}"#, "prompt_cache_options"),
        (r#""max_tokens":9"#, "max_tokens"),
        (r#""n":2"#, "n"),
        (r#""reasoning":{"mode":"pro"}"#, "reasoning.mode"),
        (r#""tools":[{"type":"web_search"}]"#, "tools"),
        (r#""input":[{"type":"hologram"}]"#, "input"),
    ] {
        assert_eq!(surcharge(fields), Some(name), "{fields}");
    }
    for fields in [
        r#""service_tier":"flex","context_management":[ ],"n":1,"prompt":null"#,
        r#""cache_control":{"type": "ephemeral"},"instructions":"x""#,
        r#""cache_control":null,"input":[{"role":"user","content":"x","cache_control":{"type":"ephemeral","ttl":"5m"}}]"#,
        r#""max_output_tokens":9,"prompt_cache_key":"k","include":["x"],"unknown":1"#,
        r#""reasoning":{"effort":"high","summary":"auto","mode":"standard"}"#,
    ] {
        assert_eq!(surcharge(fields), None, "{fields}");
    }
}

#[test]
fn the_neutral_form_has_the_instructions_first() {
    let body = br#"{"model":"m","instructions":"be brief","input":"hi","reasoning":{"effort":"low","summary":"auto"},"max_output_tokens":9,"text":{"format":{"type":"json_schema","name":"s","schema":{"type":"object"},"strict":true}}}"#;
    assert_json_snapshot!(conversation(body).unwrap(), @r#"
    {
      "messages": [
        {
          "role": "system",
          "parts": [
            {
              "type": "text",
              "text": "be brief"
            }
          ]
        },
        {
          "role": "user",
          "parts": [
            {
              "type": "text",
              "text": "hi"
            }
          ]
        }
      ],
      "tools": [],
      "tool_choice": {
        "mode": "auto"
      },
      "parallel_tool_calls": null,
      "sampling": {
        "temperature": null,
        "top_p": null,
        "top_k": null,
        "seed": null,
        "frequency_penalty": null,
        "presence_penalty": null,
        "stop": []
      },
      "output_cap": 9,
      "output_shape": {
        "type": "json_schema",
        "name": "s",
        "schema": {
          "type": "object"
        },
        "strict": true
      },
      "reasoning": {
        "effort": "low",
        "budget_tokens": null,
        "adaptive": false,
        "shown": true
      },
      "rest": {}
    }
    "#);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _read = read_head(&body);
        let _parsed = parse_create(&body);
    }

    #[test]
    fn any_item_is_read_or_refused(text in r#"\{("(type|role|content|id|output|call_id)":("message"|"user"|"x"|\[\]|\[\{"type":"input_text"\}\]|null|1),){0,4}"z":1\}"#) {
        if let Ok(value) = serde_json::from_str::<Value>(&text)
            && let Ok(item) = read_item(value, "input[0]")
            && item.kind != crate::openai_responses::ItemKind::ItemReference
        {
            prop_assert!(items_to_messages(&[item]).is_ok());
        }
    }
}

#[test]
fn a_request_of_too_many_values_is_refused_before_it_is_a_tree() {
    let zeros = |count: usize| vec!["0"; count].join(",");
    let said = |body: &str| parse_create(body.as_bytes()).unwrap_err().message;
    let listed = format!(r#"{{"model":"m","input":[{}]}}"#, zeros(ITEMS_MAX + 1));
    assert_eq!(said(&listed), format!("'input' has more than {ITEMS_MAX} items"));
    let tooled = format!(r#"{{"model":"m","input":"x","tools":[{}]}}"#, zeros(TOOLS_MAX + 1));
    assert_eq!(said(&tooled), format!("'tools' has more than {TOOLS_MAX} tools"));
    let hidden =
        format!(r#"{{"model":"m","input":"x","hidden":[{}]}}"#, zeros(crate::weight::VALUES_MAX));
    assert_eq!(
        said(&hidden),
        format!("the body has more than {} values", crate::weight::VALUES_MAX)
    );
}

#[test]
fn two_tools_that_models_would_know_by_one_name_are_refused_at_the_second() {
    let function = r#"{"type":"function","name":"agents__close"}"#;
    let namespace = r#"{"type":"namespace","name":"agents","description":"d","tools":[{"type":"function","name":"open"},{"type":"function","name":"close"}]}"#;
    let custom = r#"{"type":"custom","name":"agents__close"}"#;
    let tools = |list: [&str; 2]| refused(&format!(r#""input":"x","tools":[{}]"#, list.join(",")));
    let shown = [[function, namespace], [namespace, custom], [function, function]].map(tools);
    assert_snapshot!(shown.join("\n"), @r#"
    invalid_request tools[1].tools[1].name: another tool is called 'agents__close' already
    invalid_request tools[1].name: another tool is called 'agents__close' already
    invalid_request tools[1].name: another tool is called 'agents__close' already
    "#);
}
