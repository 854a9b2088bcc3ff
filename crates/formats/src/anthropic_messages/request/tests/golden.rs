//! Requests as clients send them, as neutral forms, and as they are written again.

use insta::assert_snapshot;
use serde_json::Value;
use types::call::Operation;
use types::conversation::{Conversation, Effort, Message, OutputShape, Part, Role, ToolCall};
use types::format::{Edits, Rendered};

use super::super::{parse, read_head, render};

const EDITS: Edits<'static> = Edits {
    model: "m",
    output_cap: None,
    stream: false,
    request_usage: false,
    logprobs: false,
    continues: false,
    operation: Operation::Chat,
    output_max: None,
    quirks: None,
};

/// A value without what says nothing.
fn brief(value: Value) -> Option<Value> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::Object(fields) => {
            let fields = fields.into_iter().filter_map(|(name, value)| Some((name, brief(value)?)));
            let fields: serde_json::Map<_, _> = fields.collect();
            (!fields.is_empty()).then_some(Value::Object(fields))
        }
        Value::Array(list) => {
            let list: Vec<Value> = list.into_iter().filter_map(brief).collect();
            (!list.is_empty()).then_some(Value::Array(list))
        }
        other => Some(other),
    }
}

/// A conversation in short lines: what is asked, and each message.
fn told(conversation: &Conversation) -> String {
    let mut whole = serde_json::to_value(conversation).unwrap();
    let messages = whole["messages"].take();
    let mut lines = vec![brief(whole).unwrap().to_string()];
    lines.extend(messages.as_array().unwrap().iter().map(ToString::to_string));
    lines.join("\n")
}

fn written(rendered: &Rendered) -> String {
    let body = std::str::from_utf8(&rendered.body).unwrap();
    format!("{body}\n{:?} {:?} {:?}", rendered.headers, rendered.dropped, rendered.output_cap)
}

/// What a request says, and how it is written again.
fn there_and_back(fields: &str) -> String {
    let body = format!(r#"{{"model":"x","max_tokens":4096,{fields}}}"#);
    read_head(body.as_bytes()).unwrap();
    let conversation = parse(body.as_bytes()).unwrap();
    let rendered = render(&conversation, &EDITS).unwrap();
    read_head(&rendered.body).unwrap();
    format!("{}\n{}", told(&conversation), written(&rendered))
}

#[test]
fn text_and_system_prompts() {
    let text = there_and_back(
        r#""system":"be brief","messages":[{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"text","text":"yes"},{"type":"text","text":"?"}]},{"role":"user","content":""}],
        "stop_sequences":["END"],"temperature":0.5,"top_k":3"#,
    );
    assert_snapshot!(text, @r#"
    {"tool_choice":{"mode":"auto"},"sampling":{"temperature":0.5,"top_k":3,"stop":["END"]},"output_cap":4096,"output_shape":{"type":"text"}}
    {"role":"system","parts":[{"type":"text","text":"be brief"}]}
    {"role":"user","parts":[{"type":"text","text":"hi"}]}
    {"role":"assistant","parts":[{"type":"text","text":"yes"},{"type":"text","text":"?"}]}
    {"role":"user","parts":[{"type":"text","text":""}]}
    {"model":"m","max_tokens":4096,"system":[{"type":"text","text":"be brief"}],"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"text","text":"yes"},{"type":"text","text":"?"}]}],"temperature":0.5,"top_k":3,"stop_sequences":["END"],"stream":false}
    [("anthropic-version", "2023-06-01")] [] None
    "#);
    let blocks = there_and_back(
        r#""system":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}},{"type":"text","text":"b"}],
        "messages":[{"role":"user","content":"hi"},{"role":"system","content":[{"type":"text","text":"now brief"}],"clear_at":"next_user_message"},{"role":"system","output_config":{"effort":"low"}}]"#,
    );
    assert_snapshot!(blocks, @r#"
    {"tool_choice":{"mode":"auto"},"output_cap":4096,"output_shape":{"type":"text"},"marks":[{"place":{"part":{"message":0,"part":0}},"life":"minutes"}],"rest":{"messages.clear_at":"next_user_message","messages.output_config":{"effort":"low"}}}
    {"role":"system","parts":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}
    {"role":"user","parts":[{"type":"text","text":"hi"}]}
    {"role":"system","parts":[{"type":"text","text":"now brief"}]}
    {"model":"m","max_tokens":4096,"system":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}},{"type":"text","text":"b"}],"messages":[{"role":"user","content":"hi"},{"role":"system","content":"now brief"}],"stream":false}
    [("anthropic-version", "2026-10-21")] ["messages.clear_at", "messages.output_config"] None
    "#);
}

#[test]
fn images_and_documents() {
    let text = there_and_back(
        r#""messages":[{"role":"user","content":[
            {"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}},
            {"type":"image","source":{"type":"url","url":"https://x/y.png"},"cache_control":{"type":"ephemeral"}},
            {"type":"image","source":{"type":"file","file_id":"file_1"}},
            {"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBE"},"title":"t","context":"c","citations":{"enabled":true}},
            {"type":"document","source":{"type":"url","url":"https://x/y.pdf"}},
            {"type":"document","source":{"type":"text","media_type":"text/plain","data":"plain"},"title":"t"},
            {"type":"document","source":{"type":"content","content":[{"type":"text","text":"inside"}]}},
            {"type":"search_result","source":"https://x","title":"t","content":[{"type":"text","text":"found"}]}]}]"#,
    );
    assert_snapshot!(text, @r#"
    {"tool_choice":{"mode":"auto"},"output_cap":4096,"output_shape":{"type":"text"},"marks":[{"place":{"part":{"message":0,"part":1}},"life":"minutes"}],"rest":{"messages.content.context":"c","messages.content.citations":{"enabled":true},"messages.content.title":"t","messages.content.source":"https://x"}}
    {"role":"user","parts":[{"type":"media","kind":"image","url":"data:image/png;base64,AAAA","name":null,"source":null},{"type":"media","kind":"image","url":"https://x/y.png","name":null,"source":null},{"type":"media","kind":"image","url":null,"name":null,"source":{"type":"image","source":{"type":"file","file_id":"file_1"}}},{"type":"media","kind":"file","url":"data:application/pdf;base64,JVBE","name":"t","source":null},{"type":"media","kind":"file","url":"https://x/y.pdf","name":null,"source":null},{"type":"text","text":"plain"},{"type":"text","text":"inside"},{"type":"text","text":"found"}]}
    {"model":"m","max_tokens":4096,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}},{"type":"image","source":{"type":"url","url":"https://x/y.png"},"cache_control":{"type":"ephemeral"}},{"type":"image","source":{"type":"file","file_id":"file_1"}},{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBE"},"title":"t"},{"type":"document","source":{"type":"url","url":"https://x/y.pdf"}},{"type":"text","text":"plain"},{"type":"text","text":"inside"},{"type":"text","text":"found"}]}],"stream":false}
    [("anthropic-version", "2026-10-21")] ["messages.content.context", "messages.content.citations", "messages.content.title", "messages.content.source"] None
    "#);
}

#[test]
fn tools_and_their_results() {
    let text = there_and_back(
        r#""messages":[{"role":"user","content":"go"},
            {"role":"assistant","content":[{"type":"text","text":"I look"},{"type":"tool_use","id":"toolu_1","name":"find","input":{"n":9007199254740993, "b":1.0,"a":[]}},{"type":"tool_use","id":"toolu_2","name":"now","input":{}}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_2"},{"type":"tool_result","tool_use_id":"toolu_1","is_error":true,"content":[{"type":"text","text":"broken"},{"type":"image","source":{"type":"base64","media_type":"image/webp","data":"AAAA"}}]},{"type":"text","text":"and?"}]}],
        "tools":[{"name":"find","description":"d","input_schema":{"type":"object","properties":{"n":{"type":"integer"}}},"strict":true,"cache_control":{"type":"ephemeral"},"defer_loading":false},{"type":"custom","name":"now","input_schema":{"type":"object"}}],
        "tool_choice":{"type":"tool","name":"find","disable_parallel_tool_use":true}"#,
    );
    assert_snapshot!(text, @r#"
    {"tools":[{"name":"find","description":"d","parameters":{"type":"object","properties":{"n":{"type":"integer"}}},"strict":true},{"name":"now","parameters":{"type":"object"}}],"tool_choice":{"mode":"named","name":"find"},"output_cap":4096,"output_shape":{"type":"text"},"marks":[{"place":{"tool":0},"life":"minutes"}]}
    {"role":"user","parts":[{"type":"text","text":"go"}]}
    {"role":"assistant","parts":[{"type":"text","text":"I look"},{"type":"tool_call","id":"toolu_1","name":"find","arguments":"{\"n\":9007199254740993, \"b\":1.0,\"a\":[]}"},{"type":"tool_call","id":"toolu_2","name":"now","arguments":"{}"}]}
    {"role":"tool","parts":[{"type":"tool_result","call_id":"toolu_2","parts":[],"is_error":false},{"type":"tool_result","call_id":"toolu_1","parts":[{"type":"text","text":"broken"},{"type":"media","kind":"image","url":"data:image/webp;base64,AAAA","name":null,"source":null}],"is_error":true}]}
    {"role":"user","parts":[{"type":"text","text":"and?"}]}
    {"model":"m","max_tokens":4096,"messages":[{"role":"user","content":"go"},{"role":"assistant","content":[{"type":"text","text":"I look"},{"type":"tool_use","id":"toolu_1","name":"find","input":{"n":9007199254740993, "b":1.0,"a":[]}},{"type":"tool_use","id":"toolu_2","name":"now","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_2"},{"type":"tool_result","tool_use_id":"toolu_1","content":[{"type":"text","text":"broken"},{"type":"image","source":{"type":"base64","media_type":"image/webp","data":"AAAA"}}],"is_error":true}]},{"role":"user","content":"and?"}],"tools":[{"name":"find","description":"d","input_schema":{"type":"object","properties":{"n":{"type":"integer"}}},"strict":true,"cache_control":{"type":"ephemeral"}},{"name":"now","input_schema":{"type":"object"}}],"tool_choice":{"type":"tool","name":"find","disable_parallel_tool_use":true},"stream":false}
    [("anthropic-version", "2026-10-21")] [] None
    "#);
}

#[test]
fn thinking_goes_back_as_it_came() {
    let text = there_and_back(
        r#""messages":[{"role":"user","content":"go"},
            {"role":"assistant","content":[{"type":"thinking","thinking":"","signature":"sig=="},{"type":"redacted_thinking","data":"enc"},{"type":"thinking","thinking":"unsigned","signature":""},{"type":"tool_use","id":"t","name":"f","input":{}}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"ok"}]}],
        "thinking":{"type":"enabled","budget_tokens":2000,"display":"omitted","block_binding":{"prefix_mismatch_behavior":"drop_block"}},"output_config":{"effort":"max","task_budget":{"type":"tokens","total":9}}"#,
    );
    assert_snapshot!(text, @r#"
    {"tool_choice":{"mode":"auto"},"output_cap":4096,"output_shape":{"type":"text"},"reasoning":{"effort":"max","budget_tokens":2000},"rest":{"output_config.task_budget":{"type":"tokens","total":9},"thinking.block_binding":{"prefix_mismatch_behavior":"drop_block"}}}
    {"role":"user","parts":[{"type":"text","text":"go"}]}
    {"role":"assistant","parts":[{"type":"reasoning","text":"","signature":"sig==","redacted":false,"origin":"anthropic_messages"},{"type":"reasoning","text":"","signature":"enc","redacted":true,"origin":"anthropic_messages"},{"type":"reasoning","text":"unsigned","signature":null,"redacted":false,"origin":null},{"type":"tool_call","id":"t","name":"f","arguments":"{}"}]}
    {"role":"tool","parts":[{"type":"tool_result","call_id":"t","parts":[{"type":"text","text":"ok"}],"is_error":false}]}
    {"model":"m","max_tokens":4096,"messages":[{"role":"user","content":"go"},{"role":"assistant","content":[{"type":"thinking","thinking":"","signature":"sig=="},{"type":"redacted_thinking","data":"enc"},{"type":"tool_use","id":"t","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"ok"}]}],"thinking":{"type":"enabled","budget_tokens":2000,"display":"omitted"},"output_config":{"effort":"max"},"stream":false}
    [("anthropic-version", "2026-10-21")] ["thinking", "output_config.task_budget", "thinking.block_binding"] None
    "#);
    let ask = |fields: &str| {
        let body = format!(r#"{{"model":"x","messages":[],{fields}}}"#);
        brief(serde_json::to_value(parse(body.as_bytes()).unwrap().reasoning).unwrap())
    };
    let shown = [
        r#""thinking":{"type":"adaptive","display":"updates"}"#,
        r#""thinking":{"type":"between_tools"},"output_config":{"effort":"low"}"#,
        r#""thinking":{"type":"disabled"},"output_config":{"effort":"low"}"#,
        r#""output_config":{"effort":"xhigh"}"#,
        r#""output_config":{"effort":null},"thinking":null"#,
    ]
    .map(|fields| ask(fields).unwrap_or_default().to_string());
    assert_snapshot!(shown.join("\n"), @r#"
    {"adaptive":true,"shown":true}
    {"effort":"low","adaptive":true}
    {"effort":"none"}
    {"effort":"xhigh"}
    null
    "#);
}

#[test]
fn schemas_for_the_answer() {
    let text = there_and_back(
        r#""messages":[{"role":"user","content":"go"}],"output_config":{"effort":"high","format":{"type":"json_schema","schema":{"type":"object","$defs":{}}}}"#,
    );
    assert_snapshot!(text, @r#"
    {"tool_choice":{"mode":"auto"},"output_cap":4096,"output_shape":{"type":"json_schema","name":"output","schema":{"type":"object"},"strict":true},"reasoning":{"effort":"high"}}
    {"role":"user","parts":[{"type":"text","text":"go"}]}
    {"model":"m","max_tokens":4096,"messages":[{"role":"user","content":"go"}],"thinking":{"type":"adaptive"},"output_config":{"effort":"high","format":{"type":"json_schema","schema":{"type":"object","$defs":{}}}},"stream":false}
    [("anthropic-version", "2026-10-21")] [] None
    "#);
    let old = br#"{"model":"x","messages":[],"output_format":{"type":"json_schema","schema":{}}}"#;
    assert!(matches!(parse(old).unwrap().output_shape, OutputShape::JsonSchema { .. }));
}

#[test]
fn what_an_agent_sends_is_never_refused() {
    let text = there_and_back(
        r#""stream":true,"metadata":{"user_id":"u"},"context_management":{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]},"service_tier":"auto","cache_control":{"type":"ephemeral"},"n":5,"sparkle":{"a":1},
        "system":[{"type":"text","text":"x-anthropic-billing-header: cc_version=2"},{"type":"text","text":"You are an agent.","cache_control":{"type":"ephemeral","ttl":"1h","scope":"global"}}],
        "thinking":{"type":"adaptive"},"output_config":{"effort":"high"},
        "messages":[{"role":"user","content":[{"type":"text","text":"<system-reminder>x</system-reminder>"},{"type":"text","text":"go","cache_control":{"type":"ephemeral"}}]}],
        "tools":[{"name":"Bash","description":"d","input_schema":{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object"},"eager_input_streaming":true}]"#,
    );
    assert_snapshot!(text, @r#"
    {"tools":[{"name":"Bash","description":"d","parameters":{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object"}}],"tool_choice":{"mode":"auto"},"output_cap":4096,"output_shape":{"type":"text"},"reasoning":{"effort":"high","adaptive":true},"marks":[{"place":{"part":{"message":0,"part":1}},"life":"hour"},{"place":{"part":{"message":1,"part":1}},"life":"minutes"},{"place":"end","life":"minutes"}],"rest":{"system.cache_control.scope":"global","tools.eager_input_streaming":true,"metadata.user_id":"u","context_management":{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]},"body.n":5,"body.sparkle":{"a":1}}}
    {"role":"system","parts":[{"type":"text","text":"x-anthropic-billing-header: cc_version=2"},{"type":"text","text":"You are an agent."}]}
    {"role":"user","parts":[{"type":"text","text":"<system-reminder>x</system-reminder>"},{"type":"text","text":"go"}]}
    {"model":"m","max_tokens":4096,"system":[{"type":"text","text":"x-anthropic-billing-header: cc_version=2"},{"type":"text","text":"You are an agent.","cache_control":{"type":"ephemeral","ttl":"1h"}}],"messages":[{"role":"user","content":[{"type":"text","text":"<system-reminder>x</system-reminder>"},{"type":"text","text":"go","cache_control":{"type":"ephemeral"}}]}],"tools":[{"name":"Bash","description":"d","input_schema":{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object"}}],"thinking":{"type":"adaptive"},"output_config":{"effort":"high"},"cache_control":{"type":"ephemeral"},"stream":false}
    [("anthropic-version", "2026-10-21")] ["system.cache_control.scope", "tools.eager_input_streaming", "metadata.user_id", "context_management", "body.n", "body.sparkle"] None
    "#);
}

#[test]
fn what_cannot_be_said_is_named() {
    let cases = [
        r#""messages":{}"#,
        r#""messages":[1]"#,
        r#""messages":[{"role":"user"}]"#,
        r#""messages":[{"role":"tool","content":"x"}]"#,
        r#""messages":[{"role":"user","content":7}]"#,
        r#""messages":[{"role":"user","content":[{"text":"x"}]}]"#,
        r#""messages":[{"role":"user","content":[{"type":"text","text":"x","text":"y"}]}]"#,
        r#""messages":[{"role":"user","content":[{"type":"tool_use","id":"t","name":"f","input":{}}]}]"#,
        r#""messages":[{"role":"assistant","content":[{"type":"tool_result","tool_use_id":"t"}]}]"#,
        r#""messages":[{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":[]}]}]"#,
        r#""messages":[{"role":"assistant","content":[{"type":"server_tool_use"}]}]"#,
        r#""messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"tool_result"}]}]}]"#,
        r#""messages":[{"role":"user","content":[{"type":"image","source":{"type":"hologram"}}]}]"#,
        r#""messages":[{"role":"user","content":[{"type":"document","source":{"type":"content","content":[{"type":"document"}]}}]}]"#,
        r#""messages":[],"system":[{"type":"image","source":{"type":"url","url":"https://x"}}]"#,
        r#""messages":[],"tools":[{"type":"web_search_20260318","name":"web_search"}]"#,
        r#""messages":[],"tools":[{"name":"f","input_schema":[]}]"#,
        r#""messages":[],"tool_choice":{"type":"some"}"#,
        r#""messages":[],"thinking":{"type":"enabled"}"#,
        r#""messages":[],"thinking":{"type":"hard"}"#,
        r#""messages":[],"output_config":{"effort":"huge"}"#,
        r#""messages":[],"output_config":{"format":{"type":"xml"}}"#,
        r#""messages":[],"stop_sequences":[1]"#,
        r#""messages":[],"stop_sequences":["","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","","",""]"#,
        r#""messages":[],"temperature":"hot""#,
        r#""messages":[],"service_tier":"gold""#,
        r#""messages":[],"mcp_servers":[{}]"#,
        r#""messages":[],"thread":{"type":"create"}"#,
        r#""messages":[],"inference_geo":"us""#,
        r#""messages":[],"user_profile_id":"u""#,
    ];
    let shown = cases.map(|fields| {
        let body = format!(r#"{{"model":"m",{fields}}}"#);
        let failure = parse(body.as_bytes()).unwrap_err();
        let param = failure.param.as_deref().unwrap_or("-");
        format!("{} {param}: {}", failure.code, failure.message)
    });
    assert_snapshot!(shown.join("\n"), @"
    invalid_request messages: invalid type for 'messages': expected an array, got an object
    invalid_request messages[0]: invalid type for 'messages[0]': expected an object, got a number
    invalid_request messages[0].content: missing required parameter: 'messages[0].content'
    invalid_request messages[0].role: role 'tool' is not known: use user, assistant or system
    invalid_request messages[0].content: invalid type for 'messages[0].content': expected a string or a list of blocks, got a number
    invalid_request messages[0].content[0].type: missing required parameter: 'messages[0].content[0].type'
    invalid_request messages[0].content[0].text: 'text' is given twice
    unsupported messages[0].content[0].type: content of type 'tool_use' is not offered here
    unsupported messages[0].content[0].type: content of type 'tool_result' is not offered here
    invalid_request messages[0].content[0].input: invalid type for 'messages[0].content[0].input': expected an object, got an array
    unsupported messages[0].content[0].type: content of type 'server_tool_use' is not offered here
    unsupported messages[0].content[0].content[0].type: content of type 'tool_result' is not offered here
    unsupported messages[0].content[0].source.type: a source of type 'hologram' is not offered here
    unsupported messages[0].content[0].source.content[0].type: content of type 'document' is not offered here
    unsupported system: a system prompt can only be text here
    unsupported tools[0].type: tools of type 'web_search_20260318' are offered by Anthropic's own service only
    invalid_request tools[0].input_schema: invalid type for 'tools[0].input_schema': expected a JSON Schema, got an array
    invalid_request tool_choice.type: tool choice 'some' is not known: use auto, any, tool or none
    invalid_request thinking.budget_tokens: missing required parameter: 'thinking.budget_tokens'
    invalid_request thinking.type: 'hard' is not known: use enabled, adaptive or disabled
    invalid_request output_config.effort: effort 'huge' is not known: use low, medium, high, xhigh or max
    unsupported output_config.format.type: format 'xml' is not known: use json_schema
    invalid_request stop_sequences[0]: invalid value for 'stop_sequences[0]': expected a string
    invalid_request stop_sequences: 'stop_sequences' has more than 64 elements
    invalid_request temperature: invalid value for 'temperature': expected a number
    invalid_request service_tier: use auto or standard_only
    unsupported mcp_servers: tool servers of a request are called by Anthropic's own service only
    unsupported thread: threads are kept by Anthropic's own service: send the whole history
    unsupported inference_geo: where another provider computes can't be chosen per request
    unsupported user_profile_id: 'user_profile_id' acts for somebody else, which no key here may: leave it out
    ");
}

fn of_chat(messages: Vec<Message>) -> Conversation {
    Conversation { messages, ..Conversation::default() }
}

fn call(id: &str, arguments: &str) -> Message {
    let (id, name, arguments) = (id.to_owned(), "f".to_owned(), arguments.to_owned());
    let call = Part::ToolCall(ToolCall { id, name, arguments });
    Message { role: Role::Assistant, parts: vec![call] }
}

fn result(id: &str, parts: Vec<Part>) -> Message {
    let part = Part::ToolResult { call_id: id.to_owned(), parts, is_error: false };
    Message { role: Role::Tool, parts: vec![part] }
}

#[test]
fn what_other_formats_say_is_written() {
    let mut conversation = of_chat(vec![
        Message::text(Role::System, "be brief"),
        Message::text(Role::Developer, "use tools"),
        Message::text(Role::User, "go"),
        Message { role: Role::Assistant, parts: vec![Part::text(" \n"), Part::reasoning("hm")] },
        call("call|1/é", "{\"a\" : 1e2}"),
        call("", "  "),
        result("call|1/é", vec![Part::text("one")]),
        result("", vec![Part::text("")]),
        Message::text(Role::System, "be kind"),
        Message { role: Role::Assistant, parts: vec![Part::Refusal { text: "no".to_owned() }] },
    ]);
    conversation.sampling.seed = Some(7);
    conversation.sampling.presence_penalty = Some(0.5);
    conversation.parallel_tool_calls = Some(false);
    conversation.rest = serde_json::from_str(r#"{"n":1,"user":"u","logit_bias":{}}"#).unwrap();
    let edits = Edits { output_max: Some(64_000), stream: true, ..EDITS };
    assert_snapshot!(written(&render(&conversation, &edits).unwrap()), @r#"
    {"model":"m","max_tokens":64000,"system":[{"type":"text","text":"be brief"},{"type":"text","text":"use tools"}],"messages":[{"role":"user","content":"go"},{"role":"assistant","content":[{"type":"tool_use","id":"toolu_799a80efb1fc7f18966ad722","name":"f","input":{"a" : 1e2}}]},{"role":"assistant","content":[{"type":"tool_use","id":"toolu_e3b0c44298fc1c149afbf4c8","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_799a80efb1fc7f18966ad722","content":"one"},{"type":"tool_result","tool_use_id":"toolu_e3b0c44298fc1c149afbf4c8"}]},{"role":"system","content":"be kind"},{"role":"assistant","content":"no"}],"stream":true}
    [("anthropic-version", "2026-10-21")] ["thinking", "seed", "presence_penalty", "user", "logit_bias"] Some(64000)
    "#);
    let counting = Edits { operation: Operation::CountTokens, ..edits };
    conversation.messages.truncate(3);
    assert_snapshot!(written(&render(&conversation, &counting).unwrap()), @r#"
    {"model":"m","system":[{"type":"text","text":"be brief"},{"type":"text","text":"use tools"}],"messages":[{"role":"user","content":"go"}]}
    [("anthropic-version", "2026-10-21")] ["user", "logit_bias"] None
    "#);
}

#[test]
fn a_cap_is_always_given_and_named_where_nobody_gave_one() {
    let cap = |given: Option<u64>, edits: Edits<'_>| {
        let conversation = Conversation { output_cap: given, ..of_chat(Vec::new()) };
        let rendered = render(&conversation, &edits).unwrap();
        let body: Value = serde_json::from_slice(&rendered.body).unwrap();
        (body["max_tokens"].as_u64().unwrap(), rendered.output_cap)
    };
    assert_eq!(cap(None, EDITS), (32_768, Some(32_768)));
    assert_eq!(cap(None, Edits { output_max: Some(9), ..EDITS }), (9, Some(9)));
    assert_eq!(cap(Some(7), Edits { output_max: Some(9), ..EDITS }), (7, None));
    assert_eq!(cap(Some(7), Edits { output_cap: Some(5), ..EDITS }), (5, None));
}

#[test]
fn thinking_is_asked_for_where_it_can_be_given_back() {
    let ask = |change: &dyn Fn(&mut Conversation)| {
        let mut conversation = of_chat(vec![Message::text(Role::User, "go")]);
        conversation.output_cap = Some(4_000);
        change(&mut conversation);
        let rendered = render(&conversation, &EDITS).unwrap();
        let body: Value = serde_json::from_slice(&rendered.body).unwrap();
        format!("{} {} {:?}", body["thinking"], body["output_config"], rendered.dropped)
    };
    let effort = |effort| move |c: &mut Conversation| c.reasoning.effort = Some(effort);
    let budget = |tokens| move |c: &mut Conversation| c.reasoning.budget_tokens = Some(tokens);
    let in_a_loop = |c: &mut Conversation| {
        c.reasoning.effort = Some(Effort::High);
        c.messages.extend([call("a", "{}"), result("a", Vec::new())]);
    };
    let shown = [
        ask(&effort(Effort::Off)),
        ask(&effort(Effort::Minimal)),
        ask(&effort(Effort::Max)),
        ask(&budget(2_000)),
        ask(&budget(10)),
        ask(&budget(9_000)),
        ask(&|c: &mut Conversation| {
            budget(2_000)(c);
            c.output_cap = Some(1_000);
        }),
        ask(&|c: &mut Conversation| c.reasoning.shown = Some(true)),
        ask(&|c: &mut Conversation| {
            c.reasoning.adaptive = true;
            c.reasoning.shown = Some(true);
        }),
        ask(&in_a_loop),
        ask(&|c: &mut Conversation| {
            in_a_loop(c);
            let signed = Part::Reasoning {
                text: "hm".to_owned(),
                signature: Some("s".to_owned()),
                redacted: false,
                origin: Some("anthropic_messages".to_owned()),
            };
            c.messages[1].parts.insert(0, signed);
            c.messages.extend([call("b", "{}"), result("b", Vec::new())]);
        }),
        ask(&|c: &mut Conversation| {
            in_a_loop(c);
            c.messages.push(Message::text(Role::User, "next"));
        }),
    ];
    assert_snapshot!(shown.join("\n"), @r#"
    {"type":"disabled"} null []
    {"type":"adaptive"} {"effort":"low"} []
    {"type":"adaptive"} {"effort":"max"} []
    {"type":"enabled","budget_tokens":2000} null []
    {"type":"enabled","budget_tokens":1024} null ["thinking.budget_tokens"]
    {"type":"enabled","budget_tokens":3999} null ["thinking.budget_tokens"]
    null null ["thinking.budget_tokens"]
    null null ["reasoning.summary"]
    {"type":"adaptive","display":"summarized"} null []
    null {"effort":"high"} ["reasoning_effort"]
    {"type":"adaptive"} {"effort":"high"} []
    {"type":"adaptive"} {"effort":"high"} []
    "#);
}

#[test]
fn foreign_reasoning_goes_to_nobody_else() {
    let foreign = Part::Reasoning {
        text: String::new(),
        signature: Some("gAAAA".to_owned()),
        redacted: false,
        origin: Some("openai_responses".to_owned()),
    };
    let said = Message { role: Role::Assistant, parts: vec![foreign, Part::text("yes")] };
    let rendered = render(&of_chat(vec![said]), &EDITS).unwrap();
    assert!(!std::str::from_utf8(&rendered.body).unwrap().contains("gAAAA"));
    assert_eq!(rendered.dropped, ["thinking"]);
}

#[test]
fn what_cannot_be_written_is_named() {
    let media = |kind: &str, url: Option<&str>, source: Value| {
        let (kind, url) = (kind.to_owned(), url.map(str::to_owned));
        let part = Part::Media { kind, url, name: None, source };
        of_chat(vec![Message { role: Role::User, parts: vec![part] }])
    };
    let with = |change: &dyn Fn(&mut Conversation)| {
        let mut conversation = of_chat(Vec::new());
        change(&mut conversation);
        conversation
    };
    let tool = |name: &str| types::conversation::ToolDefinition {
        name: name.to_owned(),
        description: None,
        parameters: None,
        strict: None,
    };
    let rest = |name: &str, value: Value| {
        with(&move |c: &mut Conversation| drop(c.rest.insert(name.to_owned(), value.clone())))
    };
    let cases = [
        with(&|c| c.output_shape = OutputShape::JsonObject),
        with(&|c| c.sampling.stop = vec!["\n".to_owned()]),
        with(&|c| c.sampling.temperature = Some(1.5)),
        with(&|c| c.tool_choice = types::conversation::ToolChoice::Required),
        with(&|c| c.tools = vec![tool("a b")]),
        with(&|c| c.tools = vec![tool(&"x".repeat(129))]),
        rest("n", 2.into()),
        rest("web_search_options", serde_json::json!({})),
        rest("modalities", serde_json::json!(["text", "audio"])),
        of_chat(vec![call("a", "[1]")]),
        of_chat(vec![call("a", "{\"a\":")]),
        media("image", Some("data:image/tiff;base64,AA"), Value::Null),
        media("image", Some("http://x/y.png"), Value::Null),
        media("image", None, serde_json::json!({ "type": "input_image", "file_id": "f" })),
        media("audio", Some("data:audio/wav;base64,AA"), Value::Null),
        media("file", Some("data:text/plain;base64,AA"), Value::Null),
        of_chat(vec![Message { role: Role::User, parts: call("a", "{}").parts }]),
        of_chat(vec![result("a", call("a", "{}").parts)]),
    ];
    let shown = cases.map(|conversation| {
        let failure = render(&conversation, &EDITS).unwrap_err();
        let param = failure.param.as_deref().unwrap_or("-");
        format!("{} {param}: {}", failure.code, failure.message)
    });
    assert_snapshot!(shown.join("\n"), @"
    unsupported response_format: this provider can't be asked for just any JSON object: give a JSON schema
    unsupported stop: this provider takes no stop sequence of white space only
    unsupported temperature: this provider takes temperatures up to 1
    invalid_request tool_choice: a tool must be called, but 'tools' is empty
    unsupported tools[0].name: this provider takes tools' names of 1 to 128 letters, digits, '_' or '-'
    unsupported tools[0].name: this provider takes tools' names of 1 to 128 letters, digits, '_' or '-'
    unsupported n: this provider gives one answer per request
    unsupported web_search_options: this provider can't be asked to search in this way
    unsupported modalities: this provider answers in text only
    invalid_request messages[0].tool_calls[0].function.arguments: 'messages[0].tool_calls[0].function.arguments' must be a JSON object for this provider
    invalid_request messages[0].tool_calls[0].function.arguments: 'messages[0].tool_calls[0].function.arguments' must be a JSON object for this provider
    unsupported messages[0].content[0]: images of type 'image/tiff' can't be said: use JPEG, PNG, GIF or WebP
    unsupported messages[0].content[0]: give base64 data, or an https address
    unsupported messages[0].content[0]: content of type 'image' given by an id can't be said here
    unsupported messages[0].content[0]: content of type 'audio' can't be said here
    unsupported messages[0].content[0]: files of type 'text/plain' can't be said: use PDF
    unsupported messages[0].content[0]: a message of this role can't hold such a part
    unsupported messages[0].tool_result: a tool's result can only be text, images and documents
    ");
}
