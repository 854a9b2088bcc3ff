//! What a route says of its targets: which of them, in which order. Data, read from the file and
//! from `/api/routes` alike.
//!
//! A [`Choice`] is a list of candidates, each a model or another choice, so that a tree of
//! conditions and splits is written with four words: `when`, `weight`, `order`, `fallback`. What
//! follows from it for a Call is for [`super::choose`].

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use types::call::TargetPolicy;
use types::clock::duration;

use super::condition::Condition;

/// The most that a weight can be.
pub const WEIGHT_MAX: u32 = 1_000_000;
/// What [`Sticky::Metadata`] is written with.
const METADATA_PREFIX: &str = "metadata.";

/// Which targets, in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// What there is to choose from, in order of preference.
    pub targets: Vec<Candidate>,
    /// In which order they are asked.
    pub order: Order,
    /// What keeps Calls on one target.
    pub sticky: Option<Sticky>,
    /// Whether the others are asked after the first one.
    pub only_first: bool,
}

/// One of a choice's targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What is asked.
    pub what: What,
    /// Its share of a split; `None` = it takes no part and is asked behind those that do.
    pub weight: Option<u32>,
    /// When it may be asked; `None` = always.
    pub when: Option<Condition>,
    /// What is done otherwise than elsewhere in its route when it fails; of a model only.
    pub own: TargetPolicy,
}

/// What a candidate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A model: `provider/model`.
    Model(String),
    /// A choice of its own.
    Choice(Box<Choice>),
}

/// In which order targets are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// As they stand, a split's by its weights.
    #[default]
    Listed,
    /// By what the Call can cost there at most.
    Price,
    /// By the time to the first content, as it was lately.
    Latency,
    /// By how often they failed lately.
    Health,
}

/// What keeps Calls on one target: of a split by their shares, else where one answered last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sticky {
    /// The session.
    Session,
    /// The user.
    User,
    /// The key.
    Key,
    /// The task.
    Task,
    /// An entry of the metadata.
    Metadata(String),
}

impl Choice {
    /// These models in this order.
    pub fn listed(models: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let targets = models.into_iter().map(|model| Candidate::from(model.into())).collect();
        Self { targets, ..Self::default() }
    }

    /// Whether it is nothing but a list, which costs no Call anything.
    pub fn is_plain(&self) -> bool {
        let plain = |candidate: &Candidate| {
            let is_model = matches!(candidate.what, What::Model(_));
            is_model && candidate.weight.is_none() && candidate.when.is_none()
        };
        let listed = self.order == Order::Listed && !self.only_first && self.sticky.is_none();
        listed && self.targets.iter().all(plain)
    }

    /// Whether Calls stay with the target that answered last. A split has its own way to keep them
    /// together, by their shares.
    pub fn pins(&self) -> bool {
        self.sticky.is_some() && self.targets.iter().all(|candidate| candidate.weight.is_none())
    }

    /// Whether they do in it, or in a choice within it.
    pub fn pins_anywhere(&self) -> bool {
        let within = |candidate: &Candidate| match &candidate.what {
            What::Model(_) => false,
            What::Choice(choice) => choice.pins_anywhere(),
        };
        self.pins() || self.targets.iter().any(within)
    }

    /// Every model in it, as they stand, each once.
    pub fn models(&self) -> Vec<&str> {
        let mut all = Vec::new();
        self.collect(&mut all);
        all
    }

    fn collect<'a>(&'a self, all: &mut Vec<&'a str>) {
        for candidate in &self.targets {
            match &candidate.what {
                What::Model(model) if all.contains(&model.as_str()) => {}
                What::Model(model) => all.push(model),
                What::Choice(choice) => choice.collect(all),
            }
        }
    }

    /// What is said of its models alone, by name. Where one is there twice, the first counts.
    pub fn of_targets(&self) -> HashMap<String, TargetPolicy> {
        let mut all = HashMap::new();
        self.each_model(&mut |model, own| {
            if own != TargetPolicy::default() {
                all.entry(model.to_owned()).or_insert(own);
            }
        });
        all
    }

    /// Shows every model in it, with what is said of it alone.
    pub fn each_model(&self, see: &mut dyn FnMut(&str, TargetPolicy)) {
        for candidate in &self.targets {
            match &candidate.what {
                What::Model(model) => see(model, candidate.own),
                What::Choice(choice) => choice.each_model(see),
            }
        }
    }

    /// Whether any condition in it fits.
    pub(crate) fn any_condition(&self, fits: &dyn Fn(&Condition) -> bool) -> bool {
        self.targets.iter().any(|candidate| {
            candidate.when.as_ref().is_some_and(fits)
                || match &candidate.what {
                    What::Model(_) => false,
                    What::Choice(choice) => choice.any_condition(fits),
                }
        })
    }
}

impl Candidate {
    /// Its name in a split: the first model in it, so that what is added behind moves nobody.
    pub(crate) fn name(&self) -> &str {
        match &self.what {
            What::Model(model) => model,
            What::Choice(choice) => choice.targets.first().map_or("", Self::name),
        }
    }
}

impl From<String> for Candidate {
    fn from(model: String) -> Self {
        Self { what: What::Model(model), weight: None, when: None, own: TargetPolicy::default() }
    }
}

impl From<&str> for Candidate {
    fn from(model: &str) -> Self {
        Self::from(model.to_owned())
    }
}

/// A candidate that is more than a name, as it is written.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    targets: Option<Vec<Candidate>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<Order>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sticky: Option<Sticky>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    when: Option<Condition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tries: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_token_timeout: Option<Time>,
}

impl Written {
    fn candidate<E: Error>(self) -> Result<Candidate, E> {
        let Self { model, targets, order, sticky, fallback, weight, when, .. } = self;
        let first_token = self.first_token_timeout.map(|Time(time)| time);
        let own = TargetPolicy { same_target_max: self.tries, first_token };
        let what = match (model, targets) {
            (Some(model), None) => {
                if order.is_some() || sticky.is_some() || fallback.is_some() {
                    return Err(E::custom("order, sticky and fallback belong beside `targets`"));
                }
                What::Model(model)
            }
            (None, Some(_)) if own != TargetPolicy::default() => {
                return Err(E::custom("tries and first_token_timeout belong beside `model`"));
            }
            (None, Some(targets)) => {
                let only_first = fallback == Some(false);
                let order = order.unwrap_or_default();
                What::Choice(Box::new(Choice { targets, order, sticky, only_first }))
            }
            (None, None) | (Some(_), Some(_)) => {
                return Err(E::custom("needs either `model` or `targets`"));
            }
        };
        Ok(Candidate { what, weight, when, own })
    }
}

impl<'de> Deserialize<'de> for Candidate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TargetVisitor)
    }
}

/// Reads a name or a table. Not an untagged enum: that would lose the path of a mistake.
struct TargetVisitor;

impl<'de> Visitor<'de> for TargetVisitor {
    type Value = Candidate;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a model's name, or a table with `model` or `targets`")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Candidate, E> {
        Ok(Candidate::from(name))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Candidate, A::Error> {
        Written::deserialize(MapAccessDeserializer::new(map))?.candidate()
    }
}

impl Serialize for Candidate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (weight, when) = (self.weight, self.when.clone());
        let TargetPolicy { same_target_max: tries, first_token } = self.own;
        let first_token_timeout = first_token.map(Time);
        let written = Written { weight, when, tries, first_token_timeout, ..Written::default() };
        let is_bare = self.weight.is_none() && self.when.is_none();
        match &self.what {
            What::Model(model) if is_bare && self.own == TargetPolicy::default() => {
                serializer.serialize_str(model)
            }
            What::Model(model) => {
                Written { model: Some(model.clone()), ..written }.serialize(serializer)
            }
            What::Choice(choice) => {
                let Choice { targets, order, sticky, only_first } = Choice::clone(choice);
                let order = Some(order).filter(|order| *order != Order::Listed);
                let fallback = only_first.then_some(false);
                Written { targets: Some(targets), order, sticky, fallback, ..written }
                    .serialize(serializer)
            }
        }
    }
}

/// A duration as it is written.
#[derive(Clone, Copy)]
struct Time(Duration);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}ms", self.0.as_millis()))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || D::Error::custom("is no duration such as \"250ms\", \"30s\" or \"5m\"");
        duration(&text).map(Self).ok_or_else(wrong)
    }
}

impl Serialize for Sticky {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = match self {
            Self::Session => "session",
            Self::User => "user",
            Self::Key => "key",
            Self::Task => "task",
            Self::Metadata(name) => {
                return serializer.serialize_str(&format!("{METADATA_PREFIX}{name}"));
            }
        };
        serializer.serialize_str(name)
    }
}

impl<'de> Deserialize<'de> for Sticky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let entry = text.strip_prefix(METADATA_PREFIX).filter(|name| !name.is_empty());
        Ok(match (text.as_str(), entry) {
            ("session", _) => Self::Session,
            ("user", _) => Self::User,
            ("key", _) => Self::Key,
            ("task", _) => Self::Task,
            (_, Some(name)) => Self::Metadata(name.to_owned()),
            (_, None) => {
                let text = "must be session, user, key, task or metadata.NAME";
                return Err(D::Error::custom(text));
            }
        })
    }
}

/// A choice that Calls share.
pub(crate) type SharedChoice = Arc<Choice>;

#[cfg(test)]
mod tests;
