//! An object of a request, read field by field from its bytes.
//!
//! A tree would copy images and would lose what numbers and keys looked like, which the arguments
//! of a tool's call must keep. Invariant: what was not taken is named by [`Object::leave`], so that
//! a crossing can report it.

use std::borrow::Cow;

use ::types::Failure;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::head::{TopLevel, typed};
use crate::json::{at, join, missing, without_indices, wrong_type};
use crate::weight::check_length;

/// An object and which of its fields were taken.
pub(crate) struct Object<'a> {
    path: String,
    fields: TopLevel<'a>,
    taken: Vec<&'static str>,
    naming: Naming,
}

/// Which spellings of a field's name are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// Only the one.
    Exact,
    /// `maxTokens` and `max_tokens`, as protocol buffers have it.
    Camel,
}

/// A name in camel case, as protocol buffers spell it in JSON.
/// <https://protobuf.dev/programming-guides/json/>
pub(crate) fn camel(name: &str) -> Cow<'_, str> {
    if !name.contains('_') {
        return Cow::Borrowed(name);
    }
    let mut upper = false;
    let mut camel = String::with_capacity(name.len());
    for letter in name.chars() {
        if letter == '_' {
            upper = true;
            continue;
        }
        camel.push(if upper { letter.to_ascii_uppercase() } else { letter });
        upper = false;
    }
    Cow::Owned(camel)
}

impl<'a> Object<'a> {
    /// A whole request.
    pub(crate) fn body(body: &'a [u8]) -> Result<Self, Failure> {
        Ok(Self::of(TopLevel::read(body)?, String::new()))
    }

    const fn of(fields: TopLevel<'a>, path: String) -> Self {
        Self { path, fields, taken: Vec::new(), naming: Naming::Exact }
    }

    /// The same object, whose fields and whose objects' fields may be spelt in either way. One that
    /// is given in both is refused.
    pub(crate) fn in_either_case(self) -> Result<Self, Failure> {
        let names: Vec<Cow<'_, str>> = self.fields.fields().map(|(name, _)| camel(name)).collect();
        for (index, name) in names.iter().enumerate() {
            if names.iter().take(index).any(|earlier| earlier == name) {
                let path = join(&self.path, name);
                return Err(Failure::invalid(path.as_str(), format!("'{path}' is given twice")));
            }
        }
        drop(names);
        Ok(Self { naming: Naming::Camel, ..self })
    }

    /// An object that stands at `path`.
    pub(crate) fn read(raw: &'a RawValue, path: &str) -> Result<Self, Failure> {
        if !raw.get().starts_with('{') {
            return Err(mistyped(raw, path, "an object"));
        }
        let fields = TopLevel::read(raw.get().as_bytes()).map_err(|mut failure| {
            let param = failure.param.as_deref().unwrap_or_default();
            failure.param = Some(join(path, param).into());
            failure
        })?;
        Ok(Self::of(fields, path.to_owned()))
    }

    /// All fields, for checks of their names.
    pub(crate) const fn top(&self) -> &TopLevel<'a> {
        &self.fields
    }

    /// The path of one of its fields.
    pub(crate) fn path_of(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// Takes a field; `null` is absent.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<&'a RawValue> {
        self.taken.push(name);
        let found = match self.naming {
            Naming::Exact => self.fields.raw(name),
            Naming::Camel => {
                self.fields.fields().find(|(given, _)| camel(given) == name).map(|(_, raw)| raw)
            }
        };
        found.filter(|raw| raw.get() != "null")
    }

    /// Takes a field of this type.
    pub(crate) fn get<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
        wanted: &str,
    ) -> Result<Option<T>, Failure> {
        let Some(raw) = self.take(name) else { return Ok(None) };
        typed(raw, &self.path_of(name), wanted)
    }

    /// Takes a string.
    pub(crate) fn string(&mut self, name: &'static str) -> Result<Option<String>, Failure> {
        self.get(name, "a string")
    }

    /// Takes a string that must be there.
    pub(crate) fn required_string(&mut self, name: &'static str) -> Result<String, Failure> {
        self.string(name)?.ok_or_else(|| missing(&self.path_of(name)))
    }

    /// Takes an object.
    pub(crate) fn object(&mut self, name: &'static str) -> Result<Option<Self>, Failure> {
        let path = self.path_of(name);
        let Some(raw) = self.take(name) else { return Ok(None) };
        let object = Self::read(raw, &path)?;
        match self.naming {
            Naming::Exact => Ok(Some(object)),
            Naming::Camel => object.in_either_case().map(Some),
        }
    }

    /// Takes an object that must be there.
    pub(crate) fn required_object(&mut self, name: &'static str) -> Result<Self, Failure> {
        self.object(name)?.ok_or_else(|| missing(&self.path_of(name)))
    }

    /// Takes a list, each element with its path.
    pub(crate) fn list(
        &mut self,
        name: &'static str,
        most: usize,
    ) -> Result<Vec<(&'a RawValue, String)>, Failure> {
        let path = self.path_of(name);
        let Some(raw) = self.take(name) else { return Ok(Vec::new()) };
        elements(raw, &path, most)
    }

    /// Keeps what was not taken in `rest`, by its path. The first of several at one path stands
    /// for all.
    pub(crate) fn leave(self, rest: &mut Map<String, Value>) {
        let path = without_indices(&self.path);
        for (name, raw) in self.fields.fields() {
            let says_nothing = matches!(raw.get(), "null" | "false" | "[]");
            let name = match self.naming {
                Naming::Exact => Cow::Borrowed(name),
                Naming::Camel => camel(name),
            };
            if !self.taken.contains(&&*name) && !says_nothing {
                // A value that is too deep for a tree is reported all the same.
                let value = || serde_json::from_str(raw.get()).unwrap_or(Value::Bool(true));
                rest.entry(join(&path, &name)).or_insert_with(value);
            }
        }
    }
}

/// The elements of a list, each with its path.
pub(crate) fn elements<'a>(
    raw: &'a RawValue,
    path: &str,
    most: usize,
) -> Result<Vec<(&'a RawValue, String)>, Failure> {
    check_length(Some(raw), path, most, "elements")?;
    let list: Vec<&'a RawValue> =
        serde_json::from_str(raw.get()).map_err(|_| mistyped(raw, path, "an array"))?;
    Ok(list.into_iter().enumerate().map(|(index, raw)| (raw, at(path, index))).collect())
}

/// A 400 for a value of the wrong type.
pub(crate) fn mistyped(raw: &RawValue, path: &str, wanted: &str) -> Failure {
    // Only its kind is said: the value may be large, or too deep for a tree.
    let kind = match raw.get().as_bytes().first() {
        Some(b'{') => Value::Object(Map::new()),
        Some(b'[') => Value::Array(Vec::new()),
        Some(b'"') => Value::String(String::new()),
        Some(b't' | b'f') => Value::Bool(true),
        Some(b'n') => Value::Null,
        _ => Value::from(0),
    };
    wrong_type(path, wanted, &kind)
}
