use serde_json::{Value, json};
use types::conversation::Message;
use types::format::Format;

use super::*;
use crate::family::family;

fn asked(fields: Value) -> Conversation {
    let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "go" }] });
    if let (Value::Object(body), Value::Object(fields)) = (&mut body, fields) {
        body.extend(fields);
    }
    formats::OPENAI_CHAT.parse_request(body.to_string().as_bytes()).unwrap()
}

fn tool() -> Value {
    json!([{ "type": "function", "function": { "name": "f" } }])
}

fn schema() -> Value {
    json!({ "type": "json_schema", "json_schema": { "name": "s", "schema": {} } })
}

/// What became of a request, in short.
fn fate(vendor: &str, model: &str, chat: bool, asked: &Conversation) -> String {
    let fitted = match fit(family(vendor, model).unwrap(), chat, asked) {
        Err(failure) => return format!("refused {}", failure.param.unwrap_or_default()),
        Ok(fitted) => fitted,
    };
    let Fitted { conversation, dropped } = fitted;
    let unchanged = matches!(conversation, Cow::Borrowed(_));
    assert_eq!(unchanged, *conversation == *asked, "{model}: copied for nothing");
    let Sampling { temperature, top_p, stop, .. } = &conversation.sampling;
    let ReasoningAsk { effort, budget_tokens, adaptive, .. } = &conversation.reasoning;
    let number = |value: &Option<f64>| value.map_or("-".to_owned(), |value| value.to_string());
    let tokens = budget_tokens.map_or("-".to_owned(), |tokens| tokens.to_string());
    let effort = effort.map_or("-", Effort::name);
    format!(
        "temperature {} top_p {} stop {} effort {effort} budget {tokens} adaptive {adaptive} dropped [{}]",
        number(temperature),
        number(top_p),
        stop.len(),
        dropped.join(",")
    )
}

#[test]
fn what_each_family_takes() {
    let drawn = json!({ "temperature": 0.2, "top_p": 0.9, "stop": ["x"] });
    let cases: [(&str, Value); 17] = [
        ("claude-sonnet-4-6", drawn.clone()),
        ("claude-opus-4-7", drawn.clone()),
        ("claude-zeta-9", drawn.clone()),
        ("claude-sonnet-4-5", json!({ "reasoning_effort": "high" })),
        ("claude-sonnet-4-6", json!({ "reasoning_effort": "xhigh" })),
        ("claude-opus-5", json!({ "reasoning_effort": "none" })),
        ("claude-opus-5-5", json!({ "reasoning_effort": "none" })),
        ("claude-opus-5-5", json!({ "reasoning_effort": "minimal" })),
        ("claude-opus-5-5", json!({ "tools": tool(), "tool_choice": "required" })),
        ("claude-opus-5", json!({ "tools": tool(), "tool_choice": "required" })),
        ("o3", drawn.clone()),
        ("gpt-5", json!({ "temperature": 0.2, "reasoning_effort": "none" })),
        ("gpt-5.4", json!({ "temperature": 0.2, "reasoning_effort": "none" })),
        ("gpt-5.4", json!({ "temperature": 0.2, "reasoning_effort": "low" })),
        ("gpt-4o", json!({ "temperature": 0.2, "reasoning_effort": "low" })),
        ("gemini-2.5-pro", json!({ "tools": tool(), "response_format": schema() })),
        ("grok-4", drawn),
    ];
    let shown: Vec<String> = cases
        .into_iter()
        .map(|(model, fields)| format!("{model}: {}", fate("x", model, false, &asked(fields))))
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    claude-sonnet-4-6: temperature 0.2 top_p 0.9 stop 1 effort - budget - adaptive false dropped []
    claude-opus-4-7: temperature - top_p - stop 1 effort - budget - adaptive false dropped [temperature,top_p]
    claude-zeta-9: temperature - top_p - stop 1 effort - budget - adaptive false dropped [temperature,top_p]
    claude-sonnet-4-5: temperature - top_p - stop 0 effort - budget 16384 adaptive false dropped [reasoning_effort]
    claude-sonnet-4-6: temperature - top_p - stop 0 effort high budget - adaptive false dropped [reasoning_effort]
    claude-opus-5: temperature - top_p - stop 0 effort none budget - adaptive false dropped []
    claude-opus-5-5: temperature - top_p - stop 0 effort low budget - adaptive false dropped [reasoning_effort]
    claude-opus-5-5: temperature - top_p - stop 0 effort low budget - adaptive false dropped [reasoning_effort]
    claude-opus-5-5: refused tool_choice
    claude-opus-5: temperature - top_p - stop 0 effort - budget - adaptive false dropped []
    o3: refused stop
    gpt-5: temperature - top_p - stop 0 effort minimal budget - adaptive false dropped [reasoning_effort,temperature]
    gpt-5.4: temperature 0.2 top_p - stop 0 effort none budget - adaptive false dropped []
    gpt-5.4: temperature - top_p - stop 0 effort low budget - adaptive false dropped [temperature]
    gpt-4o: temperature 0.2 top_p - stop 0 effort - budget - adaptive false dropped [reasoning_effort]
    gemini-2.5-pro: refused response_format
    grok-4: refused stop
    "#);
}

#[test]
fn function_tools_on_chat_cost_the_thinking_or_are_refused() {
    let mut shown = Vec::new();
    for model in ["gpt-5.1", "gpt-5.4", "gpt-5.6", "gpt-6-astra"] {
        for effort in [Value::Null, json!("none"), json!("low")] {
            let asked = asked(json!({ "tools": tool(), "reasoning_effort": effort }));
            for api in ["chat", "elsewhere"] {
                let fate = fate("x", model, api == "chat", &asked);
                let (_, fate) = fate.split_once("stop 0 ").unwrap_or(("", &fate));
                shown.push(format!("{model} {effort} {api}: {fate}"));
            }
        }
    }
    insta::assert_snapshot!(shown.join("\n"), @r#"
    gpt-5.1 null chat: effort - budget - adaptive false dropped []
    gpt-5.1 null elsewhere: effort - budget - adaptive false dropped []
    gpt-5.1 "none" chat: effort none budget - adaptive false dropped []
    gpt-5.1 "none" elsewhere: effort none budget - adaptive false dropped []
    gpt-5.1 "low" chat: effort low budget - adaptive false dropped []
    gpt-5.1 "low" elsewhere: effort low budget - adaptive false dropped []
    gpt-5.4 null chat: effort - budget - adaptive false dropped []
    gpt-5.4 null elsewhere: effort - budget - adaptive false dropped []
    gpt-5.4 "none" chat: effort none budget - adaptive false dropped []
    gpt-5.4 "none" elsewhere: effort none budget - adaptive false dropped []
    gpt-5.4 "low" chat: effort none budget - adaptive false dropped [reasoning_effort]
    gpt-5.4 "low" elsewhere: effort low budget - adaptive false dropped []
    gpt-5.6 null chat: effort none budget - adaptive false dropped [reasoning_effort]
    gpt-5.6 null elsewhere: effort - budget - adaptive false dropped []
    gpt-5.6 "none" chat: effort none budget - adaptive false dropped []
    gpt-5.6 "none" elsewhere: effort none budget - adaptive false dropped []
    gpt-5.6 "low" chat: effort none budget - adaptive false dropped [reasoning_effort]
    gpt-5.6 "low" elsewhere: effort low budget - adaptive false dropped []
    gpt-6-astra null chat: refused tools
    gpt-6-astra null elsewhere: effort - budget - adaptive false dropped []
    gpt-6-astra "none" chat: refused tools
    gpt-6-astra "none" elsewhere: effort low budget - adaptive false dropped [reasoning_effort]
    gpt-6-astra "low" chat: refused tools
    gpt-6-astra "low" elsewhere: effort low budget - adaptive false dropped []
    "#);
}

#[test]
fn what_is_known_nowhere_goes_as_it_came() {
    let everything = asked(json!({
        "temperature": 0.2, "stop": ["x"], "reasoning_effort": "xhigh", "tools": tool(),
        "tool_choice": "required", "response_format": schema(),
    }));
    let row = "name = \"n\"\nmodels = [\"*\"]\nexamples = []\nas_of = \"\"\nevidence = []";
    let nothing: Family = toml::from_str(row).unwrap();
    let fitted = fit(&nothing, true, &everything).unwrap();
    assert!(matches!(fitted.conversation, Cow::Borrowed(_)) && fitted.dropped.is_empty());
}

#[test]
fn an_answer_that_was_begun_and_media_are_refused_by_name() {
    let mut begun = asked(json!({}));
    begun.messages.push(Message::text(Role::Assistant, "It is"));
    assert_eq!(fate("x", "claude-sonnet-4-6", false, &begun), "refused messages");
    assert!(fate("x", "claude-sonnet-4-5", false, &begun).starts_with("temperature"));
    let mut heard = asked(json!({}));
    let sound = Part::Media {
        kind: "audio".to_owned(),
        url: Some("data:audio/wav;base64,AA".to_owned()),
        name: None,
        source: Value::Null,
    };
    let parts = vec![sound];
    heard.messages[0].parts =
        vec![Part::ToolResult { call_id: "c".to_owned(), parts, is_error: false }];
    assert_eq!(fate("x", "claude-opus-5", false, &heard), "refused messages");
    let by_schema = asked(json!({ "response_format": schema() }));
    assert_eq!(fate("deepseek", "deepseek-chat", true, &by_schema), "refused response_format");
}

#[test]
fn thinking_is_asked_for_in_the_ways_that_a_model_knows() {
    let ask = |budget_tokens, adaptive, effort| {
        let reasoning = ReasoningAsk { effort, budget_tokens, adaptive, shown: None };
        Conversation { reasoning, ..asked(json!({})) }
    };
    let said = |model: &str, asked: &Conversation| {
        fate("x", model, false, asked).split_once("stop 0 ").unwrap().1.to_owned()
    };
    let budget = ask(Some(10_000), false, None);
    let as_asked = "effort - budget 10000 adaptive false dropped []";
    assert_eq!(said("claude-sonnet-4-6", &budget), as_asked);
    assert_eq!(
        said("claude-opus-5-5", &budget),
        "effort high budget - adaptive true dropped [thinking.budget_tokens]"
    );
    assert_eq!(
        said("claude-sonnet-4-5", &ask(None, true, None)),
        "effort - budget 8192 adaptive false dropped [reasoning_effort]"
    );
}
