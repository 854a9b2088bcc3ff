//! Routes as Cloudflare's AI Gateway writes them: a graph of elements, made into a choice of ours.
//!
//! Their documentation says `condition` and their SDK `conditions`; both are taken. Invariant: what
//! a graph says and a choice can't is refused by the element's name, never left out.
//! <https://developers.cloudflare.com/ai-gateway/features/dynamic-routing/json-configuration/>

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use pipeline::route::choice::{Candidate, Choice, What};
use pipeline::route::condition::Condition;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use types::call::TargetPolicy;

/// Elements that are walked at most: one that two others lead to counts twice.
const STEPS_MAX: usize = 128;
/// Attempts at one target at most, as for every route.
const TRIES_MAX: u32 = 8;
/// What a split's last output is called.
const ELSE: &str = "else";
/// What fields of a condition begin with that can be asked for.
const METADATA: &str = "metadata.";

/// A graph, as a route of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Imported {
    /// Its targets, each with its tries and its time to the first content.
    pub(crate) choice: Choice,
    /// Attempts at all of them together.
    pub(crate) tries: u32,
}

#[derive(Deserialize)]
struct Graph {
    elements: Vec<Element>,
}

#[derive(Deserialize)]
struct Element {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    properties: Map<String, Value>,
    #[serde(default)]
    outputs: BTreeMap<String, Output>,
}

#[derive(Deserialize)]
struct Output {
    #[serde(alias = "element_id", rename = "elementId")]
    element: String,
}

/// Reads a graph: an object, or a text that holds its JSON.
pub(super) fn read<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Imported>, D::Error> {
    let value = match Value::deserialize(deserializer)? {
        Value::String(text) => serde_json::from_str(&text).map_err(D::Error::custom)?,
        value => value,
    };
    from_cloudflare(value).map(Some).map_err(D::Error::custom)
}

/// Makes a route of a graph.
///
/// # Errors
/// Which of its elements can't be said here, and why.
pub(crate) fn from_cloudflare(graph: Value) -> Result<Imported, String> {
    let graph: Graph = serde_json::from_value(graph).map_err(|error| error.to_string())?;
    let mut starts = graph.elements.iter().filter(|element| element.kind == "start");
    let (Some(start), None) = (starts.next(), starts.next()) else {
        return Err("needs exactly one element of the type start".to_owned());
    };
    let mut walk = Walk { graph: &graph, above: Vec::new(), steps: 0, models: HashMap::new() };
    let targets = walk.output(start, "next")?;
    let choice = Choice { targets, ..Choice::default() };
    let tries = walk.models.values().filter_map(|own| own.same_target_max);
    let tries = tries.fold(0, u32::saturating_add);
    Ok(Imported { choice, tries })
}

struct Walk<'a> {
    graph: &'a Graph,
    /// Elements on the way to the present one.
    above: Vec<&'a str>,
    steps: usize,
    /// What was said of each model so far.
    models: HashMap<String, TargetPolicy>,
}

impl<'a> Walk<'a> {
    /// What is asked from an output on, in order; nothing where the graph ends.
    fn output(&mut self, element: &'a Element, name: &str) -> Result<Vec<Candidate>, String> {
        let says = |text: &str| Err(format!("element \"{}\": {text}", element.id));
        let Some(output) = element.outputs.get(name) else {
            return says(&format!("has no output \"{name}\""));
        };
        let Some(next) = self.graph.elements.iter().find(|next| next.id == output.element) else {
            return says(&format!("leads to \"{}\", which is not there", output.element));
        };
        self.steps += 1;
        if self.steps > STEPS_MAX || self.above.contains(&next.id.as_str()) {
            return says("leads in a circle, or to too many elements");
        }
        self.above.push(&next.id);
        let targets = self.element(next);
        self.above.pop();
        targets
    }

    fn element(&mut self, element: &'a Element) -> Result<Vec<Candidate>, String> {
        match element.kind.as_str() {
            "end" => Ok(Vec::new()),
            "model" => self.model(element),
            "conditional" => {
                let when = condition(element)?;
                let holds = self.branch(element, "true")?;
                let fails = self.branch(element, "false")?;
                let holds = Candidate { when: Some(when), ..holds };
                Ok(vec![first_of(vec![holds, fails])])
            }
            "percentage" => self.split(element).map(|split| vec![split]),
            kind => Err(format!("element \"{}\": there is no \"{kind}\" here", element.id)),
        }
    }

    fn model(&mut self, element: &'a Element) -> Result<Vec<Candidate>, String> {
        let says = |text: &str| Err(format!("element \"{}\": {text}", element.id));
        let text = |name: &str| element.properties.get(name).and_then(Value::as_str);
        let (Some(provider), Some(model)) = (text("provider"), text("model")) else {
            return says("needs a provider and a model");
        };
        let number = |name: &str| element.properties.get(name).and_then(Value::as_u64);
        let retries = number("retries").unwrap_or(0);
        let tries = u32::try_from(retries).unwrap_or(u32::MAX).saturating_add(1).min(TRIES_MAX);
        let timeout = number("timeout").filter(|millis| *millis > 0).map(Duration::from_millis);
        let own = TargetPolicy { same_target_max: Some(tries), first_token: timeout };
        let name = format!("{provider}/{model}");
        if self.models.insert(name.clone(), own).is_some_and(|before| before != own) {
            return says("has other retries or another timeout than the same model elsewhere");
        }
        if !self.output(element, "success")?.is_empty() {
            return says("goes on after a success: an answer is the end here");
        }
        let mut targets = vec![Candidate { own, ..Candidate::from(name) }];
        if element.outputs.contains_key("fallback") {
            targets.append(&mut self.output(element, "fallback")?);
        }
        Ok(targets)
    }

    fn split(&mut self, element: &'a Element) -> Result<Candidate, String> {
        let wrong = || format!("element \"{}\": its outputs must be shares of 100 %", element.id);
        let (mut left, mut arms) = (100_u32, Vec::new());
        let (rest, shares): (Vec<_>, Vec<_>) =
            element.outputs.keys().partition(|name| name.as_str() == ELSE);
        for name in shares {
            let share = name.strip_suffix('%').unwrap_or(name).trim();
            let share: u32 = share.parse().map_err(|_| wrong())?;
            left = left.checked_sub(share).ok_or_else(wrong)?;
            arms.push(Candidate { weight: Some(share), ..self.branch(element, name)? });
        }
        match rest.first() {
            Some(name) => {
                arms.push(Candidate { weight: Some(left), ..self.branch(element, name)? });
            }
            None if left == 0 => {}
            None => return Err(wrong()),
        }
        Ok(first_of(arms))
    }

    /// One way out of a fork, as a candidate: it has to lead to a model.
    fn branch(&mut self, element: &'a Element, name: &str) -> Result<Candidate, String> {
        let targets = self.output(element, name)?;
        if targets.is_empty() {
            let id = &element.id;
            return Err(format!("element \"{id}\": its output \"{name}\" leads to no model"));
        }
        let choice = Choice { targets, ..Choice::default() };
        Ok(of_choice(choice))
    }
}

/// The first of these that may be asked, and no other.
fn first_of(targets: Vec<Candidate>) -> Candidate {
    let choice = Choice { targets, only_first: true, ..Choice::default() };
    of_choice(choice)
}

fn of_choice(choice: Choice) -> Candidate {
    let what = What::Choice(Box::new(choice));
    Candidate { what, weight: None, when: None, own: TargetPolicy::default() }
}

fn condition(element: &Element) -> Result<Condition, String> {
    let says = |text: String| format!("element \"{}\": {text}", element.id);
    let written = ["condition", "conditions"].iter().find_map(|name| element.properties.get(*name));
    let written = written.ok_or_else(|| says("needs a condition".to_owned()))?;
    let text = expression(written).map_err(says)?;
    Condition::compile(&text).map_err(|wrong| says(wrong.to_string()))
}

/// A condition in the words of MongoDB, in CEL.
fn expression(written: &Value) -> Result<String, String> {
    let map = written.as_object().filter(|map| !map.is_empty());
    let map = map.ok_or("its condition must be an object that says something")?;
    let all: Result<Vec<String>, String> = map
        .iter()
        .map(|(name, value)| match name.as_str() {
            "$and" => several(value, " && "),
            "$or" => several(value, " || "),
            "$not" => expression(value).map(|inner| format!("!{inner}")),
            field => of_field(field, value),
        })
        .collect();
    all.map(|all| format!("({})", all.join(" && ")))
}

fn several(values: &Value, between: &str) -> Result<String, String> {
    let list = values.as_array().filter(|list| !list.is_empty());
    let list = list.ok_or("$and and $or need a list")?;
    let all: Result<Vec<String>, String> = list.iter().map(expression).collect();
    all.map(|all| format!("({})", all.join(between)))
}

fn of_field(field: &str, asked: &Value) -> Result<String, String> {
    let name = field.strip_prefix(METADATA).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| {
        format!("\"{field}\" can't be asked for: conditions read `{METADATA}NAME`")
    })?;
    let name = Value::from(name).to_string();
    let Some(operators) = asked.as_object() else { return compared(&name, "$eq", asked) };
    let all: Result<Vec<String>, String> =
        operators.iter().map(|(operator, value)| compared(&name, operator, value)).collect();
    all.map(|all| all.join(" && "))
}

/// A comparison: one with an entry that was not sent holds for `$ne` and `$nin` alone.
fn compared(name: &str, operator: &str, value: &Value) -> Result<String, String> {
    let flat = |value: &Value| !value.is_array() && !value.is_object();
    let (sent, entry) = (format!("{name} in metadata"), format!("metadata[{name}]"));
    let is_list = matches!(operator, "$in" | "$nin");
    let fits = match value.as_array() {
        Some(list) => is_list && list.iter().all(flat),
        None => !is_list && flat(value),
    };
    if !fits {
        return Err(format!("{operator} can't be compared with {value}"));
    }
    Ok(match operator {
        "$eq" => format!("({sent} && {entry} == {value})"),
        "$ne" => format!("(!({sent}) || {entry} != {value})"),
        "$gt" => format!("({sent} && {entry} > {value})"),
        "$gte" => format!("({sent} && {entry} >= {value})"),
        "$lt" => format!("({sent} && {entry} < {value})"),
        "$lte" => format!("({sent} && {entry} <= {value})"),
        "$in" => format!("({sent} && {entry} in {value})"),
        "$nin" => format!("(!({sent}) || !({entry} in {value}))"),
        "$exists" if *value == Value::Bool(false) => format!("!({sent})"),
        "$exists" => format!("({sent})"),
        _ => return Err(format!("there is no operator {operator} here")),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn leads(pairs: &[(&str, &str)]) -> Value {
        let outputs = pairs.iter().map(|(name, to)| ((*name).to_owned(), json!({"elementId": to})));
        Value::Object(outputs.collect())
    }

    fn model(id: &str, retries: u64, fallback: &str) -> Value {
        json!({ "id": id, "type": "model",
            "properties": { "provider": "garage", "model": id, "retries": retries, "timeout": 20_000 },
            "outputs": leads(&[("success", "end"), ("fallback", fallback)]) })
    }

    fn graph(more: Vec<Value>) -> Value {
        let start =
            json!({ "id": "start", "type": "start", "outputs": leads(&[("next", "first")]) });
        let end = json!({ "id": "end", "type": "end", "outputs": {} });
        let elements: Vec<Value> = [start, end].into_iter().chain(more).collect();
        json!({ "name": "support", "elements": elements })
    }

    fn targets(graph: Value) -> Value {
        serde_json::to_value(from_cloudflare(graph).unwrap().choice.targets).unwrap()
    }

    #[test]
    fn a_graph_becomes_a_choice() {
        let own = |model| json!({ "model": model, "tries": 2, "first_token_timeout": "20000ms" });
        for name in ["condition", "conditions"] {
            let imported = graph(vec![
                json!({ "id": "first", "type": "conditional", "outputs": leads(&[("true", "big"), ("false", "split")]),
                    "properties": { name: { "metadata.plan": { "$eq": "paid" } } } }),
                json!({ "id": "split", "type": "percentage",
                    "outputs": leads(&[("10%", "new"), ("else", "small")]) }),
                model("big", 1, "small"),
                model("small", 1, "end"),
                model("new", 1, "end"),
            ]);
            assert_eq!(
                targets(imported),
                json!([{ "fallback": false, "targets": [
                    { "targets": [own("garage/big"), own("garage/small")],
                      "when": "((\"plan\" in metadata && metadata[\"plan\"] == \"paid\"))" },
                    { "targets": [{ "fallback": false, "targets": [
                        { "targets": [own("garage/new")], "weight": 10 },
                        { "targets": [own("garage/small")], "weight": 90 },
                    ] }] },
                ] }])
            );
        }
        let one = from_cloudflare(graph(vec![model("first", 2, "end")])).unwrap();
        let own =
            TargetPolicy { same_target_max: Some(3), first_token: Some(Duration::from_secs(20)) };
        let expected = HashMap::from([("garage/first".to_owned(), own)]);
        assert_eq!((one.tries, one.choice.of_targets()), (3, expected));
    }

    #[test]
    fn each_model_has_its_own_tries_and_time() {
        let patient = |id: &str, fallback: &str| {
            let mut patient = model(id, 0, fallback);
            patient["properties"].as_object_mut().unwrap().shift_remove("timeout");
            patient
        };
        let differ = vec![model("first", 2, "patient"), patient("patient", "end")];
        let imported = from_cloudflare(graph(differ)).unwrap();
        let of = imported.choice.of_targets();
        let time = Some(Duration::from_secs(20));
        assert_eq!(imported.tries, 4);
        let first = TargetPolicy { same_target_max: Some(3), first_token: time };
        assert_eq!(of["garage/first"], first);
        let patient = TargetPolicy { same_target_max: Some(1), first_token: None };
        assert_eq!(of["garage/patient"], patient);
    }

    #[test]
    fn one_model_with_two_policies_is_refused() {
        let mut again = model("again", 1, "end");
        again["properties"]["model"] = json!("first");
        let refused = from_cloudflare(graph(vec![model("first", 0, "again"), again])).unwrap_err();
        assert!(refused.contains("than the same model elsewhere"), "{refused}");
    }

    #[test]
    fn conditions_are_said_in_cel() {
        for (written, said) in [
            (
                json!({ "metadata.n": { "$gte": 1, "$lt": 5 } }),
                "((\"n\" in metadata && metadata[\"n\"] >= 1) && (\"n\" in metadata && metadata[\"n\"] < 5))",
            ),
            (json!({ "metadata.a": true }), "((\"a\" in metadata && metadata[\"a\"] == true))"),
            (
                json!({ "metadata.a": { "$ne": "x" } }),
                "((!(\"a\" in metadata) || metadata[\"a\"] != \"x\"))",
            ),
            (
                json!({ "$or": [{ "metadata.a": { "$in": ["x", 1] } }, { "metadata.b": { "$exists": false } }] }),
                "((((\"a\" in metadata && metadata[\"a\"] in [\"x\",1])) || (!(\"b\" in metadata))))",
            ),
        ] {
            let expression = expression(&written).unwrap();
            assert_eq!(expression, said);
            assert!(Condition::compile(&expression).is_ok(), "{expression}");
        }
    }

    #[test]
    fn what_can_not_be_said_is_refused_by_name() {
        let fork = |condition: Value| {
            json!({ "id": "first", "type": "conditional", "properties": { "condition": condition },
                "outputs": leads(&[("true", "m"), ("false", "end")]) })
        };
        for (elements, says) in [
            (
                vec![json!({ "id": "first", "type": "rate", "outputs": {} })],
                "element \"first\": there is no \"rate\" here",
            ),
            (vec![fork(json!({ "body.model": "x" }))], "\"body.model\" can't be asked for"),
            (
                vec![fork(json!({ "metadata.a": { "$regex": "x" } }))],
                "there is no operator $regex here",
            ),
            (
                vec![fork(json!({ "metadata.a": 1 })), model("m", 0, "end")],
                "its output \"false\" leads to no model",
            ),
            (vec![model("first", 0, "first")], "leads in a circle"),
            (vec![model("first", 0, "nowhere")], "leads to \"nowhere\", which is not there"),
            (
                vec![
                    json!({ "id": "first", "type": "percentage", "outputs": leads(&[("60%", "m"), ("60%x", "m")]) }),
                    model("m", 0, "end"),
                ],
                "shares of 100 %",
            ),
        ] {
            let refused = from_cloudflare(graph(elements)).unwrap_err();
            assert!(refused.contains(says), "{refused}");
        }
        assert!(from_cloudflare(json!({ "elements": [] })).is_err());
    }
}
