//! Random weights under a grammar: whatever is drawn, it parses and satisfies the client's own
//! schema.

use engine::protocol::{Generate, StopReason, Tool, ToolChoice};
use serde_json::{Value, json};

use crate::engine_process::{Answer, Engine, World, seeded};
use crate::validate::validate;

fn schemas() -> Vec<Value> {
    let person = json!({"type": "object", "properties": {
        "name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 4}},
        "required": ["name", "age"], "additionalProperties": false});
    let tree = json!({"type": "object", "properties": {"value": {"type": "number"},
        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}}, "required": ["value"],
        "$defs": {"node": {"type": "object", "properties": {"value": {"type": "boolean"},
        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}}, "required": ["value"]}}});
    let many: Vec<_> = (0..30).map(|number| format!("field_{number}")).collect();
    let wide: serde_json::Map<_, _> =
        many.iter().map(|name| (name.clone(), json!({"type": "boolean"}))).collect();
    vec![
        person.clone(),
        tree,
        json!({"type": "object"}),
        json!({}),
        json!(true),
        json!({"type": "string"}),
        json!({"type": "string", "minLength": 5, "maxLength": 9}),
        json!({"type": "string", "pattern": "^[a-c]{3}-[0-9]{2}$"}),
        json!({"type": "string", "enum": ["red", "green", "a \"quoted\" one", "é"]}),
        json!({"type": "integer"}),
        json!({"type": "number"}),
        json!({"type": "integer", "minimum": -5, "maximum": 17}),
        json!({"type": "number", "minimum": 0.5, "maximum": 2.5}),
        json!({"type": "boolean"}),
        json!({"type": "null"}),
        json!({"const": {"a": [1, "x"]}}),
        json!({"enum": [1, "two", null, {"three": 3}]}),
        json!({"type": "array"}),
        json!({"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 6}),
        json!({"type": "array", "items": person, "minItems": 1}),
        json!({"type": ["string", "null"]}),
        json!({"anyOf": [{"type": "integer"}, {"type": "object", "properties": {"k": {"type": "string"}}, "required": ["k"]}]}),
        json!({"type": "object", "properties": wide, "required": many}),
        json!({"type": "object", "additionalProperties": {"type": "integer"}}),
        json!({"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {"type": "object", "properties": {"c": {"type": "array", "items": {"type": "array", "items": {"type": "string"}}}}, "required": ["c"]}}, "required": ["b"]}}, "required": ["a"]}),
        json!({"type": "object", "properties": {"schlüssel": {"type": "string"}, "a\"b": {"type": "null"}}, "required": ["schlüssel", "a\"b"]}),
        json!({"title": "t", "description": "d", "type": "object", "properties": {"x": {"description": "any"}}, "required": ["x"]}),
    ]
}

/// Runs all requests, as many at once as the engine takes.
fn run_all(engine: &mut Engine, requests: &[Generate]) -> Vec<Answer> {
    let mut answers = Vec::new();
    for batch in requests.chunks(32) {
        let ids: Vec<_> = batch.iter().map(|request| engine.begin(request.clone())).collect();
        answers.extend(ids.into_iter().map(|id| engine.finish(id)));
    }
    answers
}

#[test]
fn whatever_is_drawn_satisfies_the_schema() {
    let world = World::new();
    let mut engine = world.start(&[]);
    let mut requests = Vec::new();
    for schema in schemas() {
        for seed in 0..6 {
            // With few tokens what is open must be closed in time. Letters are tokens here, so the
            // shortest form of the schema of thirty fields needs more than 500, of all others less
            // than 150.
            let wide = schema.pointer("/properties/field_0").is_some();
            let max_tokens = Some(if wide {
                700
            } else if seed < 3 {
                200
            } else {
                150
            });
            requests.push(Generate {
                schema: Some(schema.clone()),
                max_tokens,
                ..seeded("x", seed)
            });
        }
    }
    let answers = run_all(&mut engine, &requests);
    for (request, answer) in requests.iter().zip(answers) {
        let schema = request.schema.as_ref().unwrap();
        assert!(answer.done.is_some(), "{schema}: {:?}", answer.failed);
        let value: Value = serde_json::from_str(&answer.text)
            .unwrap_or_else(|error| panic!("{error}: {schema} gave {:?}", answer.text));
        validate(schema, schema, &value)
            .unwrap_or_else(|error| panic!("{error}: {schema} gave {}", answer.text));
    }
}

fn tools() -> Vec<Tool> {
    let tool = |name: &str, parameters: Option<Value>| Tool {
        name: name.to_owned(),
        description: Some(format!("does {name}")),
        parameters,
    };
    vec![
        tool(
            "get_weather",
            Some(
                json!({"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}, "days": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["city", "days"]}),
            ),
        ),
        tool("get", None),
        tool("note.add-1", Some(json!({"type": "object", "properties": {}}))),
    ]
}

fn check_calls(answer: &Answer) {
    let tools = tools();
    for (name, arguments) in &answer.calls {
        let tool = tools.iter().find(|tool| tool.name == *name);
        let tool = tool.unwrap_or_else(|| panic!("there is no tool {name}"));
        let value: Value = serde_json::from_str(arguments)
            .unwrap_or_else(|error| panic!("{error}: {name} got {arguments:?}"));
        let schema = tool.parameters.clone().unwrap_or_else(|| json!({"type": "object"}));
        validate(&schema, &schema, &value).unwrap_or_else(|error| panic!("{error}: {arguments}"));
    }
}

#[test]
fn forced_tool_calls_always_parse_and_name_a_tool_of_the_request() {
    let world = World::new();
    let mut engine = world.start(&[]);
    let named = |name: &str| ToolChoice::Named { name: name.to_owned() };
    let choices = [ToolChoice::Required, named("get_weather"), named("get"), named("note.add-1")];
    let mut requests = Vec::new();
    for choice in choices {
        for seed in 0..8 {
            let parallel_tool_calls = seed % 2 == 0;
            let tool_choice = choice.clone();
            requests.push(Generate {
                tools: tools(),
                tool_choice,
                parallel_tool_calls,
                ..seeded("x", seed)
            });
        }
    }
    let answers = run_all(&mut engine, &requests);
    for (request, answer) in requests.iter().zip(answers) {
        assert_eq!(answer.text, "", "{request:?}");
        assert!(!answer.calls.is_empty(), "{answer:?}");
        check_calls(&answer);
        assert!(matches!(answer.stop(), StopReason::ToolCalls | StopReason::Length));
        if let ToolChoice::Named { name } = &request.tool_choice {
            assert_eq!(answer.calls.len(), 1);
            assert_eq!(answer.calls[0].0, *name);
        }
        assert!(request.parallel_tool_calls || answer.calls.len() == 1);
    }
}

#[test]
fn arguments_stream_while_they_are_drawn() {
    let world = World::new();
    let mut engine = world.start(&[]);
    let parameters = json!({"type": "object", "properties": {"text": {"type": "string", "minLength": 40}}, "required": ["text"]});
    let tool = Tool { name: "write".to_owned(), parameters: Some(parameters), ..Tool::default() };
    let request =
        Generate { tools: vec![tool], tool_choice: ToolChoice::Required, ..seeded("x", 3) };
    let answer = engine.run(request);
    assert!(answer.deltas > 20, "{} deltas", answer.deltas);
}

#[test]
fn with_tools_and_a_schema_the_answer_is_one_or_the_other() {
    let world = World::new();
    let mut engine = world.start(&[]);
    let schema =
        json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]});
    let request =
        |seed| Generate { tools: tools(), schema: Some(schema.clone()), ..seeded("x", seed) };
    let answers = run_all(&mut engine, &(0..24).map(request).collect::<Vec<_>>());
    for answer in &answers {
        if answer.calls.is_empty() {
            validate(&schema, &schema, &serde_json::from_str(&answer.text).unwrap()).unwrap();
        } else {
            check_calls(answer);
        }
    }
    assert!(answers.iter().any(|answer| answer.calls.is_empty()));
    assert!(answers.iter().any(|answer| !answer.calls.is_empty()));
}

#[test]
fn where_no_tool_may_be_called_none_is() {
    let world = World::new();
    let mut engine = world.start(&[]);
    let request =
        |seed| Generate { tools: tools(), tool_choice: ToolChoice::None, ..seeded("x", seed) };
    let answers = run_all(&mut engine, &(0..8).map(request).collect::<Vec<_>>());
    assert!(answers.iter().all(|answer| answer.calls.is_empty()));
}
