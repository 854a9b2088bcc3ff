//! A response in one piece.

use ::types::Failure;
use ::types::format::ReadOptions;
use ::types::outcome::{Delta, Finish};
use serde_json::Value;

use super::stream::signature_of;
use super::{arguments_in, end_of, is_call};
use crate::openai_responses::client_tools::called_name;
use crate::whole::no_answer;

/// Reads a response object.
pub(in crate::openai_responses) fn read(
    body: &[u8],
    options: &ReadOptions,
) -> Result<(Vec<Delta>, Finish), Failure> {
    let response: Value = serde_json::from_slice(body)
        .map_err(|error| no_answer(Some(&error), "response", || None))?;
    let items = response.get("output").and_then(Value::as_array);
    let items = items.map(Vec::as_slice).unwrap_or_default();
    let calls = items.iter().any(|item| is_call(text(item, "type")));
    let finish = end_of(&response, calls)?;
    let mut deltas = Vec::new();
    if options.decode {
        let mut place = 0;
        items.iter().for_each(|item| take_apart(item, &mut place, &mut deltas));
    }
    Ok((deltas, finish))
}

fn take_apart(item: &Value, place: &mut u32, deltas: &mut Vec<Delta>) {
    match text(item, "type") {
        "message" => {
            for part in list(item, "content") {
                let refusal = text(part, "refusal");
                let said = text(part, "text");
                if !refusal.is_empty() {
                    deltas.push(Delta::Refusal { text: refusal.to_owned() });
                } else if !said.is_empty() {
                    deltas.push(Delta::Text { text: said.to_owned() });
                }
            }
        }
        kind if is_call(kind) => {
            let index = *place;
            *place += 1;
            let (id, name) = (text(item, "call_id").to_owned(), called_name(item));
            deltas.push(Delta::ToolCallStart { index, id, name });
            let json = arguments_in(item);
            deltas.extend((!json.is_empty()).then_some(Delta::ToolCallArguments { index, json }));
        }
        "reasoning" => {
            let content = list(item, "content").chain(list(item, "summary"));
            let texts: Vec<&str> = content.map(|part| text(part, "text")).collect();
            let joined = texts.join("\n\n");
            let shown = !joined.is_empty();
            deltas.extend(shown.then_some(Delta::Reasoning { text: joined }));
            deltas.extend(signature_of(item, shown));
        }
        // What the provider's own tools did is not part of what the model says.
        _ => {}
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}
