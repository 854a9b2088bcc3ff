//! Whether a value follows a JSON Schema, in bounded time.
//!
//! Clients send schemas, and a few hundred bytes of one can ask for more work than there is time
//! (references that double level by level), so that each step is counted and the count has an end:
//! no library that we know bounds it. It takes the keywords of draft 2020-12 that say something of
//! one value by itself, and references within the schema; `format` and the `unevaluated` keywords
//! are not looked at. Values in, a verdict out.
//! <https://json-schema.org/draft/2020-12/json-schema-validation>

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};
use types::cascade::Pattern;

/// Steps of one check at most: a schema of structured outputs takes a few for each value in it.
const STEPS_MAX: u32 = 400_000;
/// Schemas within schemas at most, references followed.
const DEPTH_MAX: u32 = 200;
/// What compiling a pattern counts for.
const PATTERN_STEPS: u32 = 8_000;
/// Bytes that are compared or searched in a step.
const BYTES_A_STEP: usize = 64;

/// Why a value does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It does not follow this keyword.
    By(&'static str),
    /// Nobody knows: the schema can't be read, or it would take too long.
    Unknown,
}

type Verdict = Result<(), Broken>;

/// Checks a value.
pub(crate) fn check(schema: &Value, value: &Value) -> Verdict {
    let mut checker = Checker { root: schema, steps: STEPS_MAX, patterns: HashMap::new() };
    checker.value(schema, value, 0)
}

struct Checker<'a> {
    root: &'a Value,
    /// Steps that are left.
    steps: u32,
    patterns: HashMap<&'a str, Option<Pattern>>,
}

impl<'a> Checker<'a> {
    fn spend(&mut self, steps: u32) -> Verdict {
        self.steps = self.steps.checked_sub(steps).ok_or(Broken::Unknown)?;
        Ok(())
    }

    fn spend_bytes(&mut self, bytes: usize) -> Verdict {
        self.spend(u32::try_from(bytes / BYTES_A_STEP).unwrap_or(u32::MAX))
    }

    fn value(&mut self, schema: &'a Value, value: &Value, depth: u32) -> Verdict {
        self.spend(1)?;
        if depth > DEPTH_MAX {
            return Err(Broken::Unknown);
        }
        let keywords = match schema {
            Value::Bool(true) => return Ok(()),
            Value::Bool(false) => return Err(Broken::By("false")),
            Value::Object(keywords) => keywords,
            Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Err(Broken::Unknown);
            }
        };
        let depth = depth + 1;
        if let Some(reference) = keywords.get("$ref") {
            let referred = self.referred(reference).ok_or(Broken::Unknown)?;
            self.value(referred, value, depth)?;
        }
        self.any(keywords, value)?;
        match value {
            Value::Number(_) => numbers(keywords, value)?,
            Value::String(text) => self.text(keywords, text)?,
            Value::Array(items) => self.array(keywords, items, depth)?,
            Value::Object(fields) => self.object(keywords, fields, depth)?,
            Value::Null | Value::Bool(_) => {}
        }
        self.combined(keywords, value, depth)
    }

    /// What a reference within the schema leads to.
    fn referred(&self, reference: &Value) -> Option<&'a Value> {
        let pointer = reference.as_str()?.strip_prefix('#')?;
        self.root.pointer(pointer)
    }

    fn any(&mut self, keywords: &'a Map<String, Value>, value: &Value) -> Verdict {
        if let Some(wanted) = keywords.get("type") {
            let is_one = match wanted {
                Value::String(name) => is_of_type(value, name),
                Value::Array(names) => {
                    names.iter().filter_map(Value::as_str).any(|name| is_of_type(value, name))
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => true,
            };
            check_that(is_one, "type")?;
        }
        if let Some(wanted) = keywords.get("const") {
            check_that(self.equal(wanted, value)?, "const")?;
        }
        if let Some(Value::Array(listed)) = keywords.get("enum") {
            let mut found = false;
            for one in listed {
                found = found || self.equal(one, value)?;
            }
            check_that(found, "enum")?;
        }
        Ok(())
    }

    /// Equal as JSON: 1 is 1.0, and the order of fields says nothing.
    fn equal(&mut self, one: &Value, other: &Value) -> Result<bool, Broken> {
        self.spend(1)?;
        Ok(match (one, other) {
            (Value::Number(one), Value::Number(other)) => {
                one == other || one.as_f64() == other.as_f64()
            }
            (Value::String(one), Value::String(other)) => {
                self.spend_bytes(one.len().min(other.len()))?;
                one == other
            }
            (Value::Array(one), Value::Array(other)) => {
                let mut same = one.len() == other.len();
                for (one, other) in one.iter().zip(other) {
                    same = same && self.equal(one, other)?;
                }
                same
            }
            (Value::Object(one), Value::Object(other)) => {
                let mut same = one.len() == other.len();
                for (name, one) in one {
                    let Some(other) = other.get(name) else { return Ok(false) };
                    same = same && self.equal(one, other)?;
                }
                same
            }
            _ => one == other,
        })
    }

    fn text(&mut self, keywords: &'a Map<String, Value>, text: &str) -> Verdict {
        self.spend_bytes(text.len())?;
        let length = || text.chars().count();
        within(keywords, ("minLength", "maxLength"), length)?;
        if let Some(pattern) = keywords.get("pattern").and_then(Value::as_str) {
            check_that(self.matches(pattern, text)?, "pattern")?;
        }
        Ok(())
    }

    /// Whether a pattern is found in a text. One that can't be read says nothing of it.
    fn matches(&mut self, pattern: &'a str, text: &str) -> Result<bool, Broken> {
        self.spend_bytes(text.len().saturating_mul(4))?;
        if !self.patterns.contains_key(pattern) {
            self.spend(PATTERN_STEPS)?;
            self.patterns.insert(pattern, Pattern::new(pattern).ok());
        }
        let compiled = self.patterns.get(pattern).and_then(Option::as_ref);
        compiled.map(|pattern| pattern.is_in(text)).ok_or(Broken::Unknown)
    }

    fn array(&mut self, keywords: &'a Map<String, Value>, items: &[Value], depth: u32) -> Verdict {
        within(keywords, ("minItems", "maxItems"), || items.len())?;
        // Before 2020-12 a list in `items` said what `prefixItems` says now.
        let (first, rest) = match (keywords.get("prefixItems"), keywords.get("items")) {
            (Some(Value::Array(first)), rest) => (&**first, rest),
            (_, Some(Value::Array(first))) => (&**first, keywords.get("additionalItems")),
            (_, rest) => (&[][..], rest),
        };
        for (place, item) in items.iter().enumerate() {
            if let Some(schema) = first.get(place).or(rest) {
                self.value(schema, item, depth)?;
            }
        }
        if let Some(schema) = keywords.get("contains") {
            let mut found = 0;
            for item in items {
                found += u64::from(self.holds(schema, item, depth)?);
            }
            let at_least = keywords.get("minContains").and_then(Value::as_u64).unwrap_or(1);
            let at_most = keywords.get("maxContains").and_then(Value::as_u64).unwrap_or(u64::MAX);
            check_that((at_least..=at_most).contains(&found), "contains")?;
        }
        if keywords.get("uniqueItems") == Some(&Value::Bool(true)) {
            let mut seen = HashSet::new();
            for item in items {
                let text = item.to_string();
                self.spend_bytes(text.len())?;
                check_that(seen.insert(text), "uniqueItems")?;
            }
        }
        Ok(())
    }

    fn object(
        &mut self,
        keywords: &'a Map<String, Value>,
        fields: &Map<String, Value>,
        depth: u32,
    ) -> Verdict {
        within(keywords, ("minProperties", "maxProperties"), || fields.len())?;
        if let Some(Value::Array(names)) = keywords.get("required") {
            let all = names.iter().filter_map(Value::as_str).all(|name| fields.contains_key(name));
            check_that(all, "required")?;
        }
        if let Some(Value::Object(depends)) = keywords.get("dependentRequired") {
            for (name, needed) in depends.iter().filter(|(name, _)| fields.contains_key(*name)) {
                let mut needed = needed.as_array().into_iter().flatten().filter_map(Value::as_str);
                self.spend_bytes(name.len())?;
                check_that(needed.all(|name| fields.contains_key(name)), "dependentRequired")?;
            }
        }
        let named = keywords.get("properties").and_then(Value::as_object);
        let patterns = keywords.get("patternProperties").and_then(Value::as_object);
        for (name, value) in fields {
            let mut is_known = false;
            if let Some(schema) = named.and_then(|named| named.get(name)) {
                is_known = true;
                self.value(schema, value, depth)?;
            }
            for (pattern, schema) in patterns.into_iter().flatten() {
                if self.matches(pattern, name)? {
                    is_known = true;
                    self.value(schema, value, depth)?;
                }
            }
            if let Some(schema) = keywords.get("additionalProperties").filter(|_| !is_known) {
                let verdict = self.value(schema, value, depth);
                verdict.map_err(|broken| match broken {
                    Broken::By("false") => Broken::By("additionalProperties"),
                    Broken::By(_) | Broken::Unknown => broken,
                })?;
            }
            if let Some(schema) = keywords.get("propertyNames") {
                self.value(schema, &Value::String(name.clone()), depth)?;
            }
        }
        Ok(())
    }

    fn combined(&mut self, keywords: &'a Map<String, Value>, value: &Value, depth: u32) -> Verdict {
        let listed = |name| keywords.get(name).and_then(Value::as_array);
        for schema in listed("allOf").into_iter().flatten() {
            self.value(schema, value, depth)?;
        }
        for (name, wanted) in [("anyOf", 1..=usize::MAX), ("oneOf", 1..=1)] {
            let Some(schemas) = listed(name) else { continue };
            let mut held = 0;
            for schema in schemas {
                held += usize::from(self.holds(schema, value, depth)?);
            }
            check_that(wanted.contains(&held), name)?;
        }
        if let Some(schema) = keywords.get("not") {
            check_that(!self.holds(schema, value, depth)?, "not")?;
        }
        if let Some(schema) = keywords.get("if") {
            let branch = if self.holds(schema, value, depth)? { "then" } else { "else" };
            if let Some(schema) = keywords.get(branch) {
                self.value(schema, value, depth)?;
            }
        }
        Ok(())
    }

    fn holds(&mut self, schema: &'a Value, value: &Value, depth: u32) -> Result<bool, Broken> {
        match self.value(schema, value, depth) {
            Ok(()) => Ok(true),
            Err(Broken::By(_)) => Ok(false),
            Err(Broken::Unknown) => Err(Broken::Unknown),
        }
    }
}

fn check_that(holds: bool, keyword: &'static str) -> Verdict {
    if holds { Ok(()) } else { Err(Broken::By(keyword)) }
}

fn within(
    keywords: &Map<String, Value>,
    (least, most): (&'static str, &'static str),
    count: impl Fn() -> usize,
) -> Verdict {
    if let Some(limit) = keywords.get(least).and_then(Value::as_u64) {
        check_that(count() as u64 >= limit, least)?;
    }
    if let Some(limit) = keywords.get(most).and_then(Value::as_u64) {
        check_that(count() as u64 <= limit, most)?;
    }
    Ok(())
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match value {
        Value::Null => name == "null",
        Value::Bool(_) => name == "boolean",
        Value::String(_) => name == "string",
        Value::Array(_) => name == "array",
        Value::Object(_) => name == "object",
        Value::Number(number) => {
            let whole = || number.as_f64().is_some_and(|number| number.fract() == 0.0);
            name == "number" || (name == "integer" && (!number.is_f64() || whole()))
        }
    }
}

fn numbers(keywords: &Map<String, Value>, value: &Value) -> Verdict {
    let Some(number) = value.as_f64() else { return Err(Broken::Unknown) };
    let limit = |name| keywords.get(name).and_then(Value::as_f64);
    let holds = |name, test: fn(f64, f64) -> bool| {
        check_that(limit(name).is_none_or(|limit| test(number, limit)), name)
    };
    holds("minimum", |number, limit| number >= limit)?;
    holds("maximum", |number, limit| number <= limit)?;
    holds("exclusiveMinimum", |number, limit| number > limit)?;
    holds("exclusiveMaximum", |number, limit| number < limit)?;
    holds("multipleOf", |number, step| {
        let times = number / step;
        // What decimal fractions lose as binary ones is no fault of the answer.
        step == 0.0 || (times - times.round()).abs() <= 1e-9 * times.abs().max(1.0)
    })
}

#[cfg(test)]
mod tests;
