//! The fuzz targets of `fuzz/` on stable: any bytes, and mutations of requests and answers that are
//! right. `PROPTEST_CASES` says how many.

use proptest::prelude::*;

use mutations::{changes, mutated};

#[path = "../../../../fuzz/src/mutations.rs"]
mod mutations;
#[expect(unreachable_pub, reason = "the fuzz crate exports it")]
#[path = "../../../../fuzz/src/targets.rs"]
mod targets;

/// Requests, each in one format's words.
const REQUESTS: [&str; 6] = [
    r#"{"model":"m","max_tokens":9,"temperature":0.5,"stop":["x"],"messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"h\u00e9\ud83d\ude00"},{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}]},{"role":"assistant","content":"t","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"n\":9007199254740993}"}}]},{"role":"tool","tool_call_id":"c1","content":"r"}],"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","properties":{"n":{"type":"integer"}}}}}],"tool_choice":{"type":"function","function":{"name":"f"}},"parallel_tool_calls":false,"reasoning_effort":"low","response_format":{"type":"json_schema","json_schema":{"name":"s","strict":true,"schema":{"type":"object"}}}}"#,
    r#"{"model":"m","store":false,"instructions":"s","max_output_tokens":9,"input":[{"role":"user","content":[{"type":"input_text","text":"h"},{"type":"input_image","image_url":"data:image/png;base64,iVBORw0KGgo="}]},{"type":"reasoning","summary":[{"type":"summary_text","text":"t"}],"encrypted_content":"e"},{"type":"function_call","call_id":"c1","name":"f","arguments":"{\"n\":1}"},{"type":"function_call_output","call_id":"c1","output":"r"}],"tools":[{"type":"function","name":"f","strict":false,"parameters":{"type":"object"}}],"tool_choice":"required","reasoning":{"effort":"low"},"text":{"format":{"type":"json_object"}}}"#,
    r#"{"model":"m","max_tokens":9,"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],"thinking":{"type":"enabled","budget_tokens":1024},"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo="}},{"type":"text","text":"h"}]},{"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"c2ln"},{"type":"tool_use","id":"c1","name":"f","input":{"n":1}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"c1","is_error":true,"content":[{"type":"text","text":"r"}]}]}],"tools":[{"name":"f","input_schema":{"type":"object"}}],"tool_choice":{"type":"tool","name":"f"},"stop_sequences":["x"]}"#,
    r#"{"systemInstruction":{"parts":[{"text":"s"}]},"contents":[{"role":"user","parts":[{"text":"h"},{"inlineData":{"mimeType":"image/png","data":"iVBORw0KGgo="}}]},{"role":"model","parts":[{"text":"t","thought":true},{"functionCall":{"id":"c1","name":"f","args":{"n":1}},"thoughtSignature":"c2ln"}]},{"role":"user","parts":[{"functionResponse":{"id":"c1","name":"f","response":{"result":"r"}}}]}],"tools":[{"functionDeclarations":[{"name":"f","parametersJsonSchema":{"type":"object"}}]}],"toolConfig":{"functionCallingConfig":{"mode":"ANY"}},"generationConfig":{"maxOutputTokens":9,"temperature":0.5,"responseMimeType":"application/json","thinkingConfig":{"thinkingBudget":99}}}"#,
    r#"{"messages":[{"role":"user","content":[{"text":"h"}]},{"role":"assistant","content":[{"toolUse":{"toolUseId":"c1","name":"f","input":{"n":1}}}]},{"role":"user","content":[{"toolResult":{"toolUseId":"c1","content":[{"text":"r"}]}}]}],"system":[{"text":"s"}],"inferenceConfig":{"maxTokens":9}}"#,
    r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"h"}],"max_tokens":9,"tools":[{"name":"f","parameters":{"type":"object"}}]}"#,
];

/// Answers: format, whether it is a stream, and what came.
const ANSWERS: [(u8, bool, &str); 10] = [
    (
        0,
        false,
        r#"{"id":"i","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#,
    ),
    (
        0,
        true,
        "data: {\"id\":\"i\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"hi\"},\"finish_reason\":null}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},\"finish_reason\":null}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n",
    ),
    (
        1,
        false,
        r#"{"id":"resp_1","object":"response","status":"completed","model":"m","output":[{"type":"message","id":"m1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"hi","annotations":[]}]},{"type":"function_call","id":"fc","call_id":"c","name":"f","arguments":"{}","status":"completed"}],"usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}"#,
    ),
    (
        1,
        true,
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"status\":\"in_progress\",\"output\":[]}}\n\nevent: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"type\":\"message\",\"id\":\"m\",\"content\":[]}}\n\nevent: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"item_id\":\"m\",\"output_index\":0,\"content_index\":0,\"delta\":\"hi\"}\n\nevent: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"status\":\"completed\",\"output\":[{\"type\":\"message\",\"id\":\"m\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"hi\"}]}],\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}}\n\n",
    ),
    (
        2,
        false,
        r#"{"id":"msg","type":"message","role":"assistant","model":"m","content":[{"type":"thinking","thinking":"t","signature":"c2ln"},{"type":"text","text":"hi"},{"type":"tool_use","id":"c","name":"f","input":{"n":1}}],"stop_reason":"tool_use","usage":{"input_tokens":1,"output_tokens":2,"cache_read_input_tokens":1}}"#,
    ),
    (
        2,
        true,
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[],\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"c\",\"name\":\"f\",\"input\":{}}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{}\"}}\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":2}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    ),
    (
        3,
        false,
        r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"hi"},{"functionCall":{"name":"f","args":{"n":1}},"thoughtSignature":"c2ln"}]},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":2,"totalTokenCount":3},"modelVersion":"m"}"#,
    ),
    (
        3,
        true,
        "data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"hi\"}]}}]}\r\n\r\ndata: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":1,\"candidatesTokenCount\":2}}\r\n\r\n",
    ),
    (
        4,
        false,
        r#"{"output":{"message":{"role":"assistant","content":[{"text":"hi"},{"toolUse":{"toolUseId":"c","name":"f","input":{"n":1}}}]}},"stopReason":"tool_use","usage":{"inputTokens":1,"outputTokens":2,"totalTokens":3},"metrics":{"latencyMs":1}}"#,
    ),
    (
        5,
        true,
        "data: {\"response\":\"hi\",\"tool_calls\":[]}\n\ndata: {\"response\":\"\",\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n",
    ),
];

/// What parsers trip over.
const WORDS: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "null",
    "true",
    "-0",
    "1e999",
    "18446744073709551616",
    "\\u0000",
    "\\ud800",
    "\u{ff}",
    "[[[[[[[[[[[[[[[[",
    "\n\n",
    "\r\n\r\n",
    "data: ",
    "data:[DONE]\n\n",
    "\"type\":\"\",",
    "\"content\":[],",
    "\"index\":4294967295,",
    "{}",
];

fn holds(result: Result<(), String>) -> Result<(), TestCaseError> {
    result.map_err(TestCaseError::fail)
}

#[test]
fn each_seed_is_right() {
    for (number, seed) in (0u8..).zip(REQUESTS) {
        let format = targets::FORMATS[usize::from(number)];
        if format.name() != "bedrock_converse" {
            format.parse_request(seed.as_bytes()).unwrap_or_else(|failure| {
                panic!("{}: {failure}", format.name());
            });
        }
        targets::request(&[&[number], seed.as_bytes()].concat()).unwrap();
    }
    for (format, stream, seed) in ANSWERS {
        for how in 0..16 {
            let how = how & !1 | u8::from(stream);
            targets::answer(&[&[format, how, 7], seed.as_bytes()].concat()).unwrap();
        }
    }
}

proptest! {
    // A failure is a seed to be written down above, not a file beside the test.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests(number in 0..REQUESTS.len(), format in 0u8..6, own in prop::bool::weighted(0.9), changes in changes()) {
        let format = if own { u8::try_from(number).unwrap_or(0) } else { format };
        let body = mutated(REQUESTS[number].as_bytes(), &changes, &WORDS);
        holds(targets::request(&[&[format], &body[..]].concat()))?;
    }

    #[test]
    fn answers(
        number in 0..ANSWERS.len(),
        format in 0u8..6,
        own in prop::bool::weighted(0.9),
        how in 0u8..16,
        cut in 1u8..,
        changes in changes(),
    ) {
        let (of, stream, seed) = ANSWERS[number];
        let (format, how) = if own { (of, how & !1 | u8::from(stream)) } else { (format, how) };
        let body = mutated(seed.as_bytes(), &changes, &WORDS);
        holds(targets::answer(&[&[format, how, cut], &body[..]].concat()))?;
    }

    #[test]
    fn events(number in 0..ANSWERS.len(), cut in 1u8.., changes in changes()) {
        let body = mutated(ANSWERS[number].2.as_bytes(), &changes, &WORDS);
        holds(targets::events(&[&[cut], &body[..]].concat()))?;
    }

    #[test]
    fn any_bytes(data in prop::collection::vec(any::<u8>(), 0..400)) {
        holds(targets::request(&data))?;
        holds(targets::answer(&data))?;
        holds(targets::events(&data))?;
    }
}
