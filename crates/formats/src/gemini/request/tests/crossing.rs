//! Requests of one format told to a target of another.

use insta::assert_snapshot;
use types::format::{Edits, Format};

use crate::{ANTHROPIC_MESSAGES, GEMINI, OPENAI_CHAT, OPENAI_RESPONSES};

fn told(from: &dyn Format, to: &dyn Format, fields: &str) -> String {
    let model = if from.name() == "gemini" { "" } else { r#""model":"x","# };
    let body = format!("{{{model}{fields}}}");
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
fn gemini_is_told_as_chat_and_as_messages() {
    let cases = [
        r#""systemInstruction":{"parts":[{"text":"s"}]},"contents":[{"role":"user","parts":[{"text":"a"},{"inlineData":{"mimeType":"image/png","data":"AAAA"}},{"inlineData":{"mimeType":"application/pdf","data":"JVBE"}}]}],"generationConfig":{"maxOutputTokens":9,"temperature":0.5,"topK":4},"safetySettings":[{"category":"c"}]"#,
        r#""contents":[{"role":"user","parts":[{"text":"go"}]},{"role":"model","parts":[{"text":"hm","thought":true,"thoughtSignature":"S"},{"functionCall":{"name":"f","args":{"n": 1}},"thoughtSignature":"T"},{"functionCall":{"name":"g","args":{}}}]},{"role":"user","parts":[{"functionResponse":{"name":"f","response":{"result":"one"}}},{"functionResponse":{"name":"g","response":{"error":"two"}}}]}],"tools":[{"functionDeclarations":[{"name":"f","parameters":{"type":"OBJECT","properties":{"n":{"type":"INTEGER"}}}},{"name":"g"}]}],"toolConfig":{"functionCallingConfig":{"mode":"ANY"}}"#,
        r#""contents":[{"role":"user","parts":[{"text":"x"}]}],"generationConfig":{"responseMimeType":"application/json","responseJsonSchema":{"type":"object"},"thinkingConfig":{"thinkingLevel":"LOW","includeThoughts":true}}"#,
        r#""contents":[{"role":"user","parts":[{"fileData":{"fileUri":"gs://b/f"}}]}]"#,
    ];
    let chat = cases.map(|fields| told(&GEMINI, &OPENAI_CHAT, fields));
    assert_snapshot!(chat.join("\n"), @r#"
    {"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},{"type":"file","file":{"filename":"document.pdf","file_data":"data:application/pdf;base64,JVBE"}}]}],"temperature":0.5,"top_k":4,"max_completion_tokens":9,"stream":false}
    ["safetySettings"]
    {"model":"m","messages":[{"role":"user","content":"go"},{"role":"assistant","content":null,"tool_calls":[{"id":"gemini_1_1","type":"function","function":{"name":"f","arguments":"{\"n\": 1}"}},{"id":"gemini_1_2","type":"function","function":{"name":"g","arguments":"{}"}}]},{"role":"tool","tool_call_id":"gemini_1_1","content":"one"},{"role":"tool","tool_call_id":"gemini_1_2","content":"two"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"n":{"type":"integer"}}}}},{"type":"function","function":{"name":"g"}}],"tool_choice":"required","stream":false}
    ["reasoning", "tool_result.is_error"]
    {"model":"m","messages":[{"role":"user","content":"x"}],"reasoning_effort":"low","response_format":{"type":"json_schema","json_schema":{"name":"output","schema":{"type":"object"},"strict":true}},"stream":false}
    ["reasoning.summary"]
    unsupported Some("messages[0].content[0].type"): content of type 'file' given in this way can't be said here
    "#);
    let messages = cases.map(|fields| told(&GEMINI, &ANTHROPIC_MESSAGES, fields));
    assert_snapshot!(messages.join("\n"), @r#"
    {"model":"m","max_tokens":9,"system":[{"type":"text","text":"s"}],"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}},{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBE"}}]}],"temperature":0.5,"top_k":4,"stream":false}
    ["safetySettings"]
    {"model":"m","max_tokens":32768,"messages":[{"role":"user","content":"go"},{"role":"assistant","content":[{"type":"tool_use","id":"gemini_1_1","name":"f","input":{"n": 1}},{"type":"tool_use","id":"gemini_1_2","name":"g","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"gemini_1_1","content":"one"},{"type":"tool_result","tool_use_id":"gemini_1_2","content":"two","is_error":true}]}],"tools":[{"name":"f","input_schema":{"type":"object","properties":{"n":{"type":"integer"}}}},{"name":"g","input_schema":{"type":"object"}}],"tool_choice":{"type":"any"},"stream":false}
    ["thinking"]
    {"model":"m","max_tokens":32768,"messages":[{"role":"user","content":"x"}],"thinking":{"type":"adaptive","display":"summarized"},"output_config":{"effort":"low","format":{"type":"json_schema","schema":{"type":"object"}}},"stream":false}
    []
    unsupported Some("messages[0].content[0]"): content of type 'file' given by an id can't be said here
    "#);
}

#[test]
fn the_others_are_told_as_gemini() {
    let chat = [
        r#""messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA","detail":"low"}},{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}]}],"temperature":0.2,"reasoning_effort":"minimal","user":"u","seed":1,"stop":"x""#,
        r#""messages":[{"role":"user","content":"go"},{"role":"assistant","content":null,"tool_calls":[{"id":"call_1|x","type":"function","function":{"name":"f","arguments":"{\"n\":9007199254740993}"}},{"id":"b","type":"function","function":{"name":"g","arguments":""}}]},{"role":"tool","tool_call_id":"b","content":"two"},{"role":"tool","tool_call_id":"call_1|x","content":"one"}],"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":{"type":"function","function":{"name":"f"}}"#,
        r#""messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_object"},"logit_bias":{"1":1}"#,
    ];
    let shown = chat.map(|fields| told(&OPENAI_CHAT, &GEMINI, fields));
    assert_snapshot!(shown.join("\n"), @r#"
    {"systemInstruction":{"parts":[{"text":"s"}]},"contents":[{"role":"user","parts":[{"text":"a"},{"inlineData":{"mimeType":"image/png","data":"AAAA"}},{"inlineData":{"mimeType":"audio/wav","data":"AAAA"}}]}],"generationConfig":{"temperature":0.2,"seed":1,"stopSequences":["x"],"thinkingConfig":{"thinkingLevel":"MINIMAL"}}}
    ["messages.content.detail", "user"]
    {"tools":[{"functionDeclarations":[{"name":"f"}]}],"toolConfig":{"functionCallingConfig":{"mode":"ANY","allowedFunctionNames":["f"]}},"contents":[{"role":"user","parts":[{"text":"go"}]},{"role":"model","parts":[{"functionCall":{"id":"call_1|x","name":"f","args":{"n":9007199254740993}},"thoughtSignature":"skip_thought_signature_validator"},{"functionCall":{"id":"b","name":"g","args":{}}}]},{"role":"user","parts":[{"functionResponse":{"id":"call_1|x","name":"f","response":{"output":"one"}}},{"functionResponse":{"id":"b","name":"g","response":{"output":"two"}}}]}],"generationConfig":{}}
    []
    {"contents":[{"role":"user","parts":[{"text":"x"}]}],"generationConfig":{"responseMimeType":"application/json"}}
    ["logit_bias"]
    "#);
    let messages = r#""max_tokens":9,"messages":[{"role":"user","content":"go"},{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"tool_use","id":"a","name":"f","input":{"n": 1}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"no","is_error":true}]}],"thinking":{"type":"adaptive"}"#;
    assert_snapshot!(told(&ANTHROPIC_MESSAGES, &GEMINI, messages), @r#"
    {"contents":[{"role":"user","parts":[{"text":"go"}]},{"role":"model","parts":[{"functionCall":{"id":"a","name":"f","args":{"n": 1}},"thoughtSignature":"skip_thought_signature_validator"}]},{"role":"user","parts":[{"functionResponse":{"id":"a","name":"f","response":{"error":"no"}}}]}],"generationConfig":{"maxOutputTokens":9,"thinkingConfig":{"thinkingBudget":-1}}}
    ["thinking"]
    "#);
}

#[test]
fn signatures_of_google_travel_in_the_items_of_responses() {
    let fields = r#""input":[{"role":"user","content":"go"},{"type":"reasoning","summary":[{"type":"summary_text","text":"hm"}],"encrypted_content":"hf1.gemini.S"},{"type":"reasoning","summary":[],"encrypted_content":"hf1.gemini_redacted.T"},{"type":"function_call","call_id":"gemini_01","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"gemini_01","output":"o"}]"#;
    assert_snapshot!(told(&OPENAI_RESPONSES, &GEMINI, fields), @r#"
    {"contents":[{"role":"user","parts":[{"text":"go"}]},{"role":"model","parts":[{"text":"hm","thought":true,"thoughtSignature":"S"},{"functionCall":{"name":"f","args":{}},"thoughtSignature":"T"}]},{"role":"user","parts":[{"functionResponse":{"name":"f","response":{"output":"o"}}}]}],"generationConfig":{}}
    []
    "#);
}
