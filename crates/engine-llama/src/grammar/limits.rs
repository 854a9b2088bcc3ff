//! What a client's schemas may ask of the compiler, counted before anything is compiled.
//!
//! The compiler's own limits are looked at between its steps, and a single step can be without
//! bound: strings that must match several patterns at once are a product of all their choices, and
//! nested repetitions one of all their counts. So what multiplies is counted here, from the
//! schema's text alone, by a walk that takes every object for a schema (a `$ref` may point
//! anywhere). It counts too much rather than too little, and it is linear. It must not know the
//! compiler.

mod pattern;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use engine::protocol::{EngineFailure, FailureCode};
use serde_json::{Map, Number, Value};

use super::schema::ANNOTATIONS;

/// Bytes of all schemas of a request.
const BYTES_MAX: usize = 256 * 1024;
/// Objects in all schemas of a request.
const OBJECTS_MAX: usize = 10_000;
/// Schemas within schemas, each with its keyword: what `serde_json` reads at all is nested less.
const NESTING_MAX: usize = 96;
/// Properties of one object: the compiler's work grows with their square, and the matcher's with
/// each that may be left out.
const PROPERTIES_MAX: usize = 500;
/// Entries of `anyOf`, `oneOf` and `allOf` in all schemas of a request.
const BRANCHES_MAX: usize = 1_000;
/// Patterns in all schemas of a request.
const PATTERNS_MAX: usize = 256;
/// Bytes of one pattern.
const PATTERN_BYTES_MAX: usize = 4_096;
/// Characters of one pattern once its repetitions are written out.
const PATTERN_SIZE_MAX: u64 = 10_000;
/// Every `multipleOf` of a request, without its decimal point, in all: the compiler has a state for
/// each remainder.
const MULTIPLES_MAX: u64 = 1_000;
/// What string constraints that one value must satisfy together may come to: the product of their
/// choices.
const CHOICES_MAX: u64 = 2_000;
/// Choices of a `format`: what they have in common with another is little.
const FORMAT_CHOICES: u64 = 2;

/// Counts over all schemas of a request.
#[derive(Debug, Default)]
pub(super) struct Counts {
    bytes: usize,
    objects: usize,
    branches: usize,
    patterns: usize,
    multiples: u64,
}

/// Where a value stands: constraints of one place may have to hold together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// It may be the same as any other.
    Any,
    /// The property of that name, of whichever object.
    Property(String),
}

/// A walk over one schema.
struct Walk<'a> {
    counts: &'a mut Counts,
    /// The first part that makes several schemas hold for one value.
    joins: Option<String>,
    /// Per place, what multiplies where schemas are joined: texts, so that each counts once.
    choices: BTreeMap<Place, BTreeSet<(String, u64)>>,
}

impl Counts {
    /// Adds a schema, which stands at `path` in the request.
    ///
    /// # Errors
    /// It would be too much work; the part is named.
    pub(super) fn add(&mut self, schema: &Value, path: &str) -> Result<(), EngineFailure> {
        self.bytes = self.bytes.saturating_add(schema.to_string().len());
        if self.bytes > BYTES_MAX {
            let message = format!("the schemas of a request may have {BYTES_MAX} bytes in all");
            return Err(refused(&message, path));
        }
        let mut walk = Walk { counts: self, joins: None, choices: BTreeMap::new() };
        walk.value(schema, path, &Place::Any, 0)?;
        walk.joined()
    }
}

impl Walk<'_> {
    fn value(
        &mut self,
        value: &Value,
        path: &str,
        place: &Place,
        depth: usize,
    ) -> Result<(), EngineFailure> {
        if depth > NESTING_MAX {
            return Err(refused(&format!("a schema may be nested {NESTING_MAX} deep"), path));
        }
        match value {
            Value::Object(fields) => self.object(fields, path, place, depth),
            Value::Array(parts) => parts.iter().enumerate().try_for_each(|(index, part)| {
                self.value(part, &format!("{path}/{index}"), place, depth + 1)
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        }
    }

    fn object(
        &mut self,
        fields: &Map<String, Value>,
        path: &str,
        place: &Place,
        depth: usize,
    ) -> Result<(), EngineFailure> {
        self.counts.objects += 1;
        if self.counts.objects > OBJECTS_MAX {
            let message = format!("the schemas of a request may have {OBJECTS_MAX} objects");
            return Err(refused(&message, path));
        }
        if self.joins.is_none() && joins(fields) {
            self.joins = Some(path.to_owned());
        }
        for (key, value) in fields {
            let path = format!("{path}/{key}");
            self.keyword(key, value, &path, place)?;
            match (key.as_str(), value) {
                ("properties", Value::Object(parts)) => {
                    for (name, part) in parts {
                        let place = Place::Property(name.clone());
                        self.value(part, &format!("{path}/{name}"), &place, depth + 1)?;
                    }
                }
                ("anyOf" | "oneOf" | "allOf" | "not" | "if" | "then" | "else", _) => {
                    self.value(value, &path, place, depth + 1)?;
                }
                _ => self.value(value, &path, &Place::Any, depth + 1)?,
            }
        }
        Ok(())
    }

    /// Counts one keyword's own value.
    fn keyword(
        &mut self,
        key: &str,
        value: &Value,
        path: &str,
        place: &Place,
    ) -> Result<(), EngineFailure> {
        match (key, value) {
            ("anyOf" | "oneOf" | "allOf", Value::Array(parts)) => {
                self.counts.branches += parts.len();
                if self.counts.branches > BRANCHES_MAX {
                    let what = "entries of anyOf, oneOf and allOf";
                    let message =
                        format!("the schemas of a request may have {BRANCHES_MAX} {what}");
                    return Err(refused(&message, path));
                }
            }
            ("properties", Value::Object(parts)) if parts.len() > PROPERTIES_MAX => {
                let message = format!("an object's schema may have {PROPERTIES_MAX} properties");
                return Err(refused(&message, path));
            }
            ("pattern", Value::String(pattern)) => self.pattern(pattern, path, place)?,
            ("patternProperties", Value::Object(parts)) => {
                for pattern in parts.keys() {
                    self.pattern(pattern, path, &Place::Any)?;
                }
            }
            ("format", Value::String(format)) => {
                let text = format!("format {format}");
                self.choices.entry(place.clone()).or_default().insert((text, FORMAT_CHOICES));
            }
            ("multipleOf", Value::Number(number)) => {
                let digits = digits(number);
                self.counts.multiples = self.counts.multiples.saturating_add(digits);
                if self.counts.multiples > MULTIPLES_MAX {
                    let what = "the digits of every multipleOf of a request may come to";
                    return Err(refused(&format!("{what} {MULTIPLES_MAX} in all"), path));
                }
                let choice = (format!("multipleOf {number}"), digits.max(1));
                self.choices.entry(place.clone()).or_default().insert(choice);
            }
            _ => {}
        }
        Ok(())
    }

    fn pattern(&mut self, text: &str, path: &str, place: &Place) -> Result<(), EngineFailure> {
        self.counts.patterns += 1;
        if self.counts.patterns > PATTERNS_MAX {
            let message = format!("the schemas of a request may have {PATTERNS_MAX} patterns");
            return Err(refused(&message, path));
        }
        if text.len() > PATTERN_BYTES_MAX {
            return Err(refused(&format!("a pattern may have {PATTERN_BYTES_MAX} bytes"), path));
        }
        let work = pattern::work(text);
        if work.size > PATTERN_SIZE_MAX {
            let message = format!(
                "a pattern may have {PATTERN_SIZE_MAX} characters with its repetitions written out"
            );
            return Err(refused(&message, path));
        }
        let choice = (format!("pattern {text}"), work.choices);
        self.choices.entry(place.clone()).or_default().insert(choice);
        Ok(())
    }

    /// Whether what may have to hold together is few enough.
    fn joined(self) -> Result<(), EngineFailure> {
        let Some(path) = &self.joins else { return Ok(()) };
        let product = |choices: &BTreeSet<(String, u64)>| {
            choices.iter().fold(1_u64, |product, (_, choices)| product.saturating_mul(*choices))
        };
        let any = self.choices.get(&Place::Any).map_or(1, product);
        let worst = self.choices.iter().filter(|(place, _)| **place != Place::Any);
        let worst = worst.map(|(_, choices)| product(choices)).max().unwrap_or(1);
        if any.saturating_mul(worst) <= CHOICES_MAX {
            return Ok(());
        }
        let message = "here several schemas hold for one value, and the patterns that may have to \
                       match together are too many or too large; join them into one pattern";
        Err(refused(message, path))
    }
}

/// Whether the schema makes several schemas hold for one value.
fn joins(fields: &Map<String, Value>) -> bool {
    let entries = |key: &str| fields.get(key).and_then(Value::as_array).map_or(0, Vec::len);
    if entries("allOf") > 1 {
        return true;
    }
    let applies = ["allOf", "anyOf", "oneOf", "$ref", "patternProperties"];
    let says_more = |key: &&String| {
        let silent = ["$defs", "definitions", "type", "required"];
        !ANNOTATIONS.contains(&key.as_str()) && !silent.contains(&key.as_str())
    };
    let many = fields.keys().filter(says_more).count() > 1;
    many && applies.iter().any(|key| fields.contains_key(*key))
}

/// A number's digits as a whole number: 0.25 has 25, 300 has 300.
fn digits(number: &Number) -> u64 {
    if let Some(whole) = number.as_u64() {
        return whole;
    }
    let number = number.as_f64().unwrap_or(f64::MAX).abs();
    let text = if number < 1.0 { format!("{number:e}") } else { number.to_string() };
    let text = text.split('e').next().unwrap_or_default().replace('.', "");
    text.parse().unwrap_or(u64::MAX)
}

fn refused(message: &str, path: &str) -> EngineFailure {
    EngineFailure::new(FailureCode::UnsupportedSchema, message).param(path)
}
