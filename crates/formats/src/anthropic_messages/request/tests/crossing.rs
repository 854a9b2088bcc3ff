//! Requests of one format told to a target of another.

use insta::assert_snapshot;
use types::format::{Edits, Format};

use crate::{ANTHROPIC_MESSAGES, OPENAI_CHAT, OPENAI_RESPONSES};

fn told(from: &dyn Format, to: &dyn Format, fields: &str) -> String {
    let body = format!(r#"{{"model":"x",{fields}}}"#);
    from.read_head(body.as_bytes()).unwrap();
    let conversation = from.parse_request(body.as_bytes()).unwrap();
    let edits = Edits { model: "m", ..Edits::default() };
    match to.render_request(&conversation, &edits) {
        Ok(rendered) => {
            to.read_head(&rendered.body).unwrap();
            let body = std::str::from_utf8(&rendered.body).unwrap().to_owned();
            format!("{body}\n{:?}", rendered.dropped)
        }
        Err(failure) => format!("{} {:?}: {}", failure.code, failure.param, failure.message),
    }
}

#[test]
fn messages_are_told_as_chat() {
    let cases = [
        r#""max_tokens":9,"system":"s","messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}},{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBE"}}]}]"#,
        r#""messages":[{"role":"user","content":"go"},{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"tool_use","id":"a","name":"f","input":{"n": 1}},{"type":"tool_use","id":"b","name":"g","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"b","content":"two","is_error":true},{"type":"tool_result","tool_use_id":"a","content":[{"type":"text","text":"one"}]},{"type":"text","text":"and?"}]}],"tools":[{"name":"f","input_schema":{"type":"object"}}],"tool_choice":{"type":"any"},"thinking":{"type":"enabled","budget_tokens":9000},"metadata":{"user_id":"u"},"service_tier":"standard_only","n":3"#,
        r#""messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":[{"type":"image","source":{"type":"url","url":"https://x/y.png"}}]}]}]"#,
        r#""messages":[{"role":"user","content":[{"type":"image","source":{"type":"file","file_id":"f"}}]}]"#,
        r#""messages":[{"role":"user","content":[{"type":"document","source":{"type":"url","url":"https://x/y.pdf"}}]}]"#,
        r#""messages":[{"role":"user","content":"x"}],"thinking":{"type":"adaptive"},"output_config":{"format":{"type":"json_schema","schema":{"type":"object"}}}"#,
    ];
    let shown = cases.map(|fields| told(&ANTHROPIC_MESSAGES, &OPENAI_CHAT, fields));
    assert_snapshot!(shown.join("\n"), @r#"
    {"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},{"type":"file","file":{"filename":"document.pdf","file_data":"data:application/pdf;base64,JVBE"}}]}],"max_completion_tokens":9,"stream":false}
    []
    {"model":"m","messages":[{"role":"user","content":"go"},{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{\"n\": 1}"}},{"id":"b","type":"function","function":{"name":"g","arguments":"{}"}}]},{"role":"tool","tool_call_id":"b","content":"two"},{"role":"tool","tool_call_id":"a","content":"one"},{"role":"user","content":"and?"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"tool_choice":"required","reasoning_effort":"medium","stream":false}
    ["reasoning", "tool_result.is_error", "metadata.user_id", "body.n"]
    {"model":"m","messages":[{"role":"tool","tool_call_id":"a","content":"Given in the next message."},{"role":"user","content":[{"type":"text","text":"From the result of a:"},{"type":"image_url","image_url":{"url":"https://x/y.png"}}]}],"stream":false}
    ["tool_result.image"]
    unsupported Some("messages[0].content[0].type"): content of type 'image' given in this way can't be said here
    unsupported Some("messages[0].content[0].type"): content of type 'file' given in this way can't be said here
    {"model":"m","messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_schema","json_schema":{"name":"output","schema":{"type":"object"},"strict":true}},"stream":false}
    []
    "#);
}

#[test]
fn chat_is_told_as_messages() {
    let cases = [
        r#""messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:image/jpg;base64,AAAA","detail":"low"}},{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,JVBE"}}]}],"temperature":0.2,"reasoning_effort":"minimal","user":"u""#,
        r#""messages":[{"role":"user","content":"go"},{"role":"assistant","content":null,"tool_calls":[{"id":"call_1|x","type":"function","function":{"name":"f","arguments":"{\"n\":1}"}},{"id":"call_2","type":"function","function":{"name":"g","arguments":""}}]},{"role":"tool","tool_call_id":"call_1|x","content":"one"},{"role":"tool","tool_call_id":"call_2","content":"two"}],"tools":[{"type":"function","function":{"name":"f"}}],"parallel_tool_calls":false,"reasoning_effort":"high","max_tokens":99"#,
        r#""messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}]}]"#,
        r#""messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"f"}}]}]"#,
        r#""messages":[],"response_format":{"type":"json_object"}"#,
    ];
    let shown = cases.map(|fields| told(&OPENAI_CHAT, &ANTHROPIC_MESSAGES, fields));
    assert_snapshot!(shown.join("\n"), @r#"
    {"model":"m","max_tokens":32768,"system":[{"type":"text","text":"s"}],"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image","source":{"type":"base64","media_type":"image/jpeg","data":"AAAA"}},{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBE"},"title":"a.pdf"}]}],"thinking":{"type":"adaptive"},"output_config":{"effort":"low"},"temperature":0.2,"stream":false}
    ["messages.content.detail", "user"]
    {"model":"m","max_tokens":99,"messages":[{"role":"user","content":"go"},{"role":"assistant","content":[{"type":"tool_use","id":"toolu_e0ab43c3835bd5fea5857efa","name":"f","input":{"n":1}},{"type":"tool_use","id":"call_2","name":"g","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_e0ab43c3835bd5fea5857efa","content":"one"},{"type":"tool_result","tool_use_id":"call_2","content":"two"}]}],"tools":[{"name":"f","input_schema":{"type":"object"}}],"tool_choice":{"type":"auto","disable_parallel_tool_use":true},"output_config":{"effort":"high"},"stream":false}
    ["reasoning_effort"]
    unsupported Some("messages[0].content[0]"): content of type 'audio' can't be said here
    unsupported Some("messages[0].content[0]"): content of type 'file' given by an id can't be said here
    unsupported Some("response_format"): this provider can't be asked for just any JSON object: give a JSON schema
    "#);
}

#[test]
fn responses_are_told_as_both() {
    let cases = [
        r#""input":[{"role":"user","content":[{"type":"input_image","image_url":"https://x/y.png","detail":"low"},{"type":"input_file","filename":"a.pdf","file_data":"JVBE"}]}],"reasoning":{"effort":"low","summary":"auto","mode":"pro"},"instructions":"s""#,
        r#""input":[{"role":"user","content":"go"},{"type":"reasoning","summary":[],"encrypted_content":"hf1.anthropic_messages.sig.x"},{"type":"reasoning","summary":[],"encrypted_content":"hf1.anthropic_messages_redacted.enc"},{"type":"reasoning","summary":[],"encrypted_content":"gAAAA"},{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"o"}]"#,
    ];
    let messages = cases.map(|fields| told(&OPENAI_RESPONSES, &ANTHROPIC_MESSAGES, fields));
    assert_snapshot!(messages.join("\n"), @r#"
    {"model":"m","max_tokens":32768,"system":[{"type":"text","text":"s"}],"messages":[{"role":"user","content":[{"type":"image","source":{"type":"url","url":"https://x/y.png"}},{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBE"},"title":"a.pdf"}]}],"thinking":{"type":"adaptive","display":"summarized"},"output_config":{"effort":"low"},"stream":false}
    ["messages.content.detail", "reasoning.mode"]
    {"model":"m","max_tokens":32768,"messages":[{"role":"user","content":"go"},{"role":"assistant","content":[{"type":"thinking","thinking":"","signature":"sig.x"},{"type":"redacted_thinking","data":"enc"},{"type":"tool_use","id":"c","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"c","content":"o"}]}],"stream":false}
    ["thinking"]
    "#);
    let chat = cases.map(|fields| told(&OPENAI_RESPONSES, &OPENAI_CHAT, fields));
    assert_snapshot!(chat.join("\n"), @r#"
    {"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x/y.png","detail":"low"}},{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,JVBE"}}]}],"reasoning_effort":"low","stream":false}
    ["reasoning.summary", "reasoning.mode"]
    {"model":"m","messages":[{"role":"user","content":"go"},{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c","content":"o"}],"stream":false}
    ["reasoning"]
    "#);
}
