//! The classifier: a logistic regression whose weights are data.
//!
//! `models/auto/weights.json` is written by the trainer, in whole hundredths of a logit, small
//! enough to be compared in a review. A bucket's weight is shared out among all that a text has, so
//! that a long text is not hard by its length alone.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::features::{Features, Group, MEASURES};

/// How much the words of a text weigh beside its measures.
pub const WORDS: f64 = 6.0;
/// How little each of many buckets counts: at 1 only the mean would count, at 0 the sum.
const SHARED_OUT: f64 = 0.6;
/// Parts of a logit that weights are written in.
const PARTS: f64 = 100.0;

/// The weights that are shipped.
const WEIGHTS: &str = include_str!("../../../../models/auto/weights.json");

/// A trained classifier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// What is hard before anything is known, in hundredths of a logit.
    pub bias: i32,
    /// By measure, in hundredths of a logit.
    pub measures: BTreeMap<String, i32>,
    /// By bucket, in hundredths of a logit; rows of some, only so that lines stay short.
    pub words: Vec<Vec<i32>>,
}

/// What a classifier says of a conversation, in logits.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    bias: f64,
    words: f64,
    measures: [f64; MEASURES.len()],
}

impl Model {
    /// The one that is shipped.
    pub fn trained() -> &'static Self {
        static READ: OnceLock<Model> = OnceLock::new();
        // A test holds that they can be read.
        READ.get_or_init(|| serde_json::from_str(WEIGHTS).unwrap_or_default())
    }

    /// How hard a task seems.
    pub fn judge(&self, found: &Features) -> Judged {
        let width = self.words.first().map_or(1, Vec::len).max(1);
        let weight = |bucket: &u16| {
            let (row, place) = (usize::from(*bucket) / width, usize::from(*bucket) % width);
            let weight = self.words.get(row).and_then(|row| row.get(place));
            i64::from(weight.copied().unwrap_or_default())
        };
        let sum: i64 = found.buckets.iter().map(weight).sum();
        // At most some thousand buckets of some hundred hundredths each.
        let sum = f64::from(i32::try_from(sum).unwrap_or_default());
        let mut measures = [0.0; MEASURES.len()];
        for ((told, (name, _)), value) in measures.iter_mut().zip(MEASURES).zip(found.measures) {
            let weight = self.measures.get(name).copied().unwrap_or_default();
            *told = f64::from(weight) / PARTS * value;
        }
        let words = sum / PARTS * share(found.buckets.len());
        Judged { bias: f64::from(self.bias) / PARTS, words, measures }
    }
}

/// What one of so many buckets counts.
pub fn share(buckets: usize) -> f64 {
    WORDS / f64::from(u32::try_from(buckets.max(1)).unwrap_or(u32::MAX)).powf(SHARED_OUT)
}

impl Judged {
    /// Above zero is hard.
    pub fn logit(&self) -> f64 {
        self.bias + self.words + self.measures.iter().sum::<f64>()
    }

    /// The probability of a hard task, in hundredths, rounded down.
    pub fn score(&self) -> u8 {
        let probability = 100.0 / (1.0 + (-self.logit()).exp());
        // Counted down to, so that no float is cut to a number.
        (1..=100_u8).rev().find(|hundredths| f64::from(*hundredths) <= probability).unwrap_or(0)
    }

    /// What each group of features says.
    pub fn by_group(&self) -> impl Iterator<Item = (Group, f64)> {
        let mut groups: Vec<(Group, f64)> = vec![(Group::Words, self.words)];
        for ((_, group), logit) in MEASURES.into_iter().zip(self.measures) {
            match groups.iter_mut().find(|(known, _)| *known == group) {
                Some((_, sum)) => *sum += logit,
                None => groups.push((group, logit)),
            }
        }
        groups.into_iter()
    }
}
