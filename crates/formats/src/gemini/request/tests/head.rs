//! What is billed beyond the text, as the head says it.

use types::call::ModelHead;

use super::super::read_head;

fn head(fields: &str) -> ModelHead {
    read_head(format!(r#"{{"contents":[]{fields}}}"#).as_bytes()).unwrap()
}

fn part(part: &str) -> ModelHead {
    read_head(format!(r#"{{"contents":[{{"role":"user","parts":[{part}]}}]}}"#).as_bytes()).unwrap()
}

#[test]
fn the_head_says_what_every_stage_needs() {
    let body = r#"{"contents":[{"parts":[{"text":"x"}]}],"generationConfig":{"maxOutputTokens":7,"candidateCount":3}}"#;
    let read = read_head(body.as_bytes()).unwrap();
    assert_eq!((read.output_cap, read.choices, read.surcharge), (Some(7), 3, None));
    assert_eq!(read.body_bytes, u64::try_from(body.len()).unwrap());
    assert_eq!(&body[read.spans.output_cap.unwrap()], "7");
    let snake =
        r#"{"contents":[],"generation_config":{"max_output_tokens":8,"candidate_count":2}}"#;
    let read = read_head(snake.as_bytes()).unwrap();
    assert_eq!((read.output_cap, read.choices, read.surcharge), (Some(8), 2, None));
}

#[test]
fn what_google_bills_apart_is_named() {
    for (fields, name) in [
        (r#","tools":[{"functionDeclarations":[]},{"googleSearch":{}}]"#, "googleSearch"),
        (r#","tools":[{"google_search":{}}]"#, "googleSearch"),
        (r#","tools":{"codeExecution":{}}"#, "codeExecution"),
        (r#","tools":[{"urlContext":{}}]"#, "urlContext"),
        (r#","tools":[{"newThing":{"x":1}}]"#, "tools"),
        (r#","cachedContent":"cachedContents/x""#, "cachedContent"),
        (r#","cached_content":"cachedContents/x""#, "cachedContent"),
        (r#","serviceTier":"soon""#, "serviceTier"),
        (r#","continuationToken":"x""#, "continuationToken"),
        (r#","newField":{}"#, "unknown fields"),
        (r#","GenerationConfig":{"maxOutputTokens":9}"#, "unknown fields"),
        (r#","generationConfig":{"responseModalities":["IMAGE"]}"#, "responseModalities"),
        (r#","generationConfig":{"speechConfig":{}}"#, "speechConfig"),
        (r#","generationConfig":{"mediaResolution":"MEDIA_RESOLUTION_HIGH"}"#, "mediaResolution"),
        (r#","generationConfig":{"MaxOutputTokens":9}"#, "unknown fields"),
    ] {
        assert_eq!(head(fields).surcharge, Some(name), "{fields}");
    }
}

#[test]
fn a_tier_that_a_price_can_say_is_told() {
    let read = head(r#","serviceTier":"priority""#);
    let tier = Some((::types::ServiceTier::Priority, "serviceTier"));
    assert_eq!((read.surcharge, read.extras.tier), (None, tier));
    assert_eq!(head(r#","serviceTier":"standard""#).extras.tier, None);
}

#[test]
fn what_costs_nothing_is_free() {
    for fields in [
        r#","tools":[{"functionDeclarations":[{"name":"f","parameters":{"type":"OBJECT"}}],"googleSearch":null}]"#,
        r#","tool_config":{"function_calling_config":{"mode":"ANY"}},"safetySettings":[{"category":"x"}]"#,
        r#","cachedContent":"","serviceTier":"standard","labels":{},"model":"models/x""#,
        r#","systemInstruction":{"parts":{"text":"x"}}"#,
        r#","generationConfig":{"responseModalities":["TEXT"],"thinkingConfig":{"thinkingBudget":1},"topK":4,"seed":1,"stop_sequences":["x"],"response_json_schema":{}}"#,
    ] {
        assert_eq!(head(fields).surcharge, None, "{fields}");
    }
    assert!(head(r#","tools":[{"functionDeclarations":[{"name":"f"}]}]"#).tools);
    assert!(!head(r#","tools":[{"functionDeclarations":[]}]"#).tools);
}

#[test]
fn a_part_counts_as_text_only_if_it_is_known_to_be() {
    for (text, media, surcharge) in [
        (r#"{"text":"x","thought":true,"thoughtSignature":"s"}"#, 0, None),
        (r#"{"functionCall":{"name":"f","args":{"inlineData":{}}}}"#, 0, None),
        (r#"{"functionResponse":{"name":"f","response":{"fileData":{}}}}"#, 0, None),
        (r#"{"inlineData":{"mimeType":"image/png","data":"A"}}"#, 1, None),
        (r#"{"inline_data":{"mime_type":"image/jpeg","data":"A"}}"#, 1, None),
        (r#"{"inlineData":{"mimeType":"application/pdf","data":"A"}}"#, 1, Some("inlineData")),
        (r#"{"inlineData":{"mimeType":"audio/wav","data":"A"}}"#, 1, Some("inlineData")),
        (r#"{"inlineData":{"data":"A"}}"#, 1, Some("inlineData")),
        (r#"{"inlineData":{"mimeType":null,"data":"A"}}"#, 1, Some("inlineData")),
        (
            r#"{"inlineData":{"mimeType":"image/png","mimeType":"video/mp4"}}"#,
            1,
            Some("inlineData"),
        ),
        (r#"{"fileData":{"fileUri":"gs://x"}}"#, 1, Some("fileData")),
        (r#"{"file_data":{"file_uri":"gs://x"},"text":"x"}"#, 1, Some("fileData")),
        (
            r#"{"functionResponse":{"name":"f","response":{},"parts":[{"inlineData":{"mimeType":"image/png"}}]}}"#,
            1,
            None,
        ),
        (r#"{"functionResponse":{"name":"f","parts":{"fileData":{}}}}"#, 1, Some("fileData")),
        (r#"{"executableCode":{"code":"x"}}"#, 0, Some("contents")),
        (r#"{"videoMetadata":{"fps":24}}"#, 0, Some("contents")),
        (r#"{"InlineData":{"data":"A"}}"#, 0, Some("contents")),
        (r#"{"fileData":null,"text":"x"}"#, 0, None),
    ] {
        let head = part(text);
        assert_eq!((head.media, head.surcharge), (media, surcharge), "{text}");
    }
    // The system prompt is looked at too, and one turn may stand without a list.
    let head = head(r#","systemInstruction":{"parts":[{"fileData":{"fileUri":"x"}}]}"#);
    assert_eq!(head.surcharge, Some("fileData"));
    let one = r#"{"contents":{"parts":{"inlineData":{"mimeType":"image/png"}}}}"#;
    assert_eq!(read_head(one.as_bytes()).unwrap().media, 1);
}

#[test]
fn a_request_that_is_counted_may_be_a_whole_one() {
    let body = r#"{"generateContentRequest":{"model":"models/x","contents":[{"parts":[{"fileData":{}}]}],"generationConfig":{"maxOutputTokens":5}}}"#;
    let head = read_head(body.as_bytes()).unwrap();
    assert_eq!((head.output_cap, head.surcharge), (Some(5), Some("fileData")));
    assert_eq!(&body[head.spans.model.unwrap()], "\"models/x\"");
}

#[test]
fn mistakes_are_named() {
    let refused = |body: &str| {
        let failure = read_head(body.as_bytes()).unwrap_err();
        format!("{:?} {}", failure.param, failure.message)
    };
    let shown = [
        refused("{}"),
        refused(r#"{"contents":"x"}"#),
        refused(r#"{"contents":[],"generationConfig":[]}"#),
        refused(r#"{"contents":[],"generationConfig":{"maxOutputTokens":"many"}}"#),
        refused(r#"{"contents":[],"systemInstruction":{},"system_instruction":{}}"#),
        refused(r#"{"contents":[],"generationConfig":{"topK":1,"top_k":2}}"#),
        refused(r#"{"contents":[{"parts":[}]}"#),
    ];
    insta::assert_snapshot!(shown.join("\n"), @r#"
    Some("contents") missing required parameter: 'contents'
    Some("contents") invalid type for 'contents': expected a list of contents
    Some("generationConfig") invalid type for 'generationConfig': expected an object
    Some("generationConfig.maxOutputTokens") invalid value for 'generationConfig.maxOutputTokens': expected a non-negative integer
    Some("systemInstruction") 'systemInstruction' is given twice
    Some("generationConfig.topK") 'generationConfig.topK' is given twice
    None the body is not a valid JSON object: it can't be parsed (line 1, column 24)
    "#);
}
