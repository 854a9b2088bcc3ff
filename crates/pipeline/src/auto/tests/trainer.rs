//! Trains the classifier. Deterministic: no randomness, the rows in the order of their files.
//!
//! It minimises half the square of the weights and `PENALTY` times the logistic loss, by gradient
//! descent with Nesterov's momentum. The bias is moved so that a score of 50 is where, easy
//! and hard ones of an author whose others were not learned from are sent rightly equally often.

use std::collections::BTreeMap;

use super::labelled::{Row, read};
use crate::auto::features::{BUCKETS, Features, MEASURES};
use crate::auto::model::{Model, share};
use crate::auto::{FAILURES, judge};
use types::auto::{AutoPolicy, Tier};
use types::conversation::Effort;

/// How much an example counts beside small weights.
const PENALTY: f64 = 3.0;
const ROUNDS: usize = 400;
const FOLDS: usize = 5;
/// Weights in one line of the file.
const WIDTH: usize = 32;
const WEIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/auto/weights.json");

/// Who wrote them, and what.
const SETS: [&[&str]; 9] = [
    &[
        include_str!("../../../../../models/auto/train/a1.jsonl"),
        include_str!("../../../../../models/auto/train/a2.jsonl"),
    ],
    &[
        include_str!("../../../../../models/auto/train/b1.jsonl"),
        include_str!("../../../../../models/auto/train/b2.jsonl"),
    ],
    &[include_str!("../../../../../models/auto/train/c1.jsonl")],
    &[
        include_str!("../../../../../models/auto/train/d1.jsonl"),
        include_str!("../../../../../models/auto/train/d2.jsonl"),
    ],
    &[include_str!("../../../../../models/auto/train/e1.jsonl")],
    &[include_str!("../../../../../models/auto/train/e2.jsonl")],
    &[include_str!("../../../../../models/auto/train/e3.jsonl")],
    &[include_str!("../../../../../models/auto/train/e4.jsonl")],
    &[include_str!("../../../../../models/auto/train/f1.jsonl")],
];

/// An example as numbers: places and values.
struct Example {
    hard: bool,
    by_rule: bool,
    values: Vec<(usize, f64)>,
}

/// What is learned: a weight by place, the bias last.
struct Fit(Vec<f64>);

impl Example {
    fn of(row: &Row) -> Self {
        let conversation = row.conversation();
        let found = Features::of(&conversation);
        let each = share(found.buckets.len());
        let words = found.buckets.iter().map(|bucket| (usize::from(*bucket), each));
        let measures = found.measures.iter().enumerate();
        let measures = measures.map(|(place, value)| (BUCKETS + place, *value));
        let one = (BUCKETS + MEASURES.len(), 1.0);
        let values = words.chain(measures).filter(|(_, value)| *value != 0.0).chain([one]);
        let effort = conversation.reasoning.effort.is_some_and(|effort| effort >= Effort::High);
        let by_rule = effort || found.failures >= FAILURES;
        Self { hard: row.is_hard(), by_rule, values: values.collect() }
    }

    fn dot(&self, weights: &[f64]) -> f64 {
        self.values.iter().map(|(place, value)| weights[*place] * value).sum()
    }
}

/// The largest curvature of the loss, by power iteration.
fn curvature(examples: &[&Example]) -> f64 {
    let mut direction = vec![1.0; BUCKETS + MEASURES.len() + 1];
    let mut most = 1.0;
    for _ in 0..20 {
        let mut next = vec![0.0; direction.len()];
        for example in examples {
            let along = example.dot(&direction);
            example.values.iter().for_each(|(place, value)| next[*place] += along * value);
        }
        let length = next.iter().map(|value| value * value).sum::<f64>().sqrt();
        let before = direction.iter().map(|value| value * value).sum::<f64>().sqrt();
        most = length / before;
        direction = next.into_iter().map(|value| value / length).collect();
    }
    most * 1.1 * PENALTY / 4.0 + 1.0
}

fn train(examples: &[&Example]) -> Fit {
    let step = 1.0 / curvature(examples);
    let places = BUCKETS + MEASURES.len() + 1;
    let (mut weights, mut ahead) = (vec![0.0; places], vec![0.0; places]);
    for round in 0..ROUNDS {
        // The bias alone is pulled by nothing.
        let mut pull: Vec<f64> = ahead.clone();
        pull[places - 1] = 0.0;
        for example in examples {
            let probability = 1.0 / (1.0 + (-example.dot(&ahead)).exp());
            let wrong = PENALTY * (probability - f64::from(u8::from(example.hard)));
            example.values.iter().for_each(|(place, value)| pull[*place] += wrong * value);
        }
        let momentum = f64::from(u32::try_from(round).unwrap());
        let momentum = momentum / (momentum + 3.0);
        for place in 0..places {
            let next = ahead[place] - step * pull[place];
            ahead[place] = next + momentum * (next - weights[place]);
            weights[place] = next;
        }
    }
    Fit(weights)
}

/// Logits of examples that were not learned from; rules decide without one.
fn held_out(examples: &[Example], fold_of: impl Fn(usize) -> usize, folds: usize) -> Vec<f64> {
    let mut logits = vec![f64::INFINITY; examples.len()];
    for fold in 0..folds {
        let learned = examples.iter().enumerate().filter(|(place, _)| fold_of(*place) != fold);
        let learned: Vec<_> = learned.map(|(_, one)| one).filter(|one| !one.by_rule).collect();
        let Fit(weights) = train(&learned);
        for (place, example) in examples.iter().enumerate() {
            if fold_of(place) == fold && !example.by_rule {
                logits[place] = example.dot(&weights);
            }
        }
    }
    logits
}

/// Which part of the easy and of the hard ones is sent rightly.
fn rates(examples: &[Example], logits: &[f64], line: f64) -> (f64, f64) {
    let right = |hard: bool| {
        let of_kind = examples.iter().zip(logits).filter(|(one, _)| one.hard == hard);
        let of_kind: Vec<_> = of_kind.collect();
        let right = of_kind.iter().filter(|(_, logit)| (**logit >= line) == hard).count();
        right as f64 / of_kind.len() as f64
    };
    (right(false), right(true))
}

/// Where both parts are about the same.
fn balanced(examples: &[Example], logits: &[f64]) -> f64 {
    let mut lines: Vec<f64> = logits.iter().copied().filter(|logit| logit.is_finite()).collect();
    lines.sort_by(f64::total_cmp);
    let difference = |line: &f64| {
        let (easy, hard) = rates(examples, logits, *line);
        (easy - hard).abs()
    };
    let best = lines.iter().map(|line| (difference(line), *line));
    best.min_by(|(one, _), (other, _)| one.total_cmp(other)).unwrap().1
}

#[expect(clippy::cast_possible_truncation, reason = "weights are some hundred hundredths")]
fn quantised(weights: &[f64], moved: f64) -> Model {
    let whole = |weight: f64| (weight * 100.0).round() as i32;
    let measures = MEASURES.iter().enumerate();
    let measures: BTreeMap<_, _> = measures
        .map(|(place, (name, _))| ((*name).to_owned(), whole(weights[BUCKETS + place])))
        .collect();
    let words: Vec<i32> = weights[..BUCKETS].iter().map(|weight| whole(*weight)).collect();
    let words = words.chunks(WIDTH).map(<[i32]>::to_vec).collect();
    Model { bias: whole(weights[BUCKETS + MEASURES.len()] - moved), measures, words }
}

/// The file: a line a row, so that it can be compared.
fn written(model: &Model) -> String {
    let rows: Vec<_> = model.words.iter().map(|row| serde_json::to_string(row).unwrap()).collect();
    let measures = serde_json::to_string_pretty(&model.measures).unwrap();
    let (bias, words) = (model.bias, rows.join(",\n"));
    format!("{{\"bias\": {bias},\n\"measures\": {measures},\n\"words\": [\n{words}\n]}}\n")
}

#[test]
#[ignore = "writes models/auto/weights.json; run it after a change of features or of examples"]
fn train_and_write() {
    let sets: Vec<Vec<Row>> = SETS.iter().map(|files| read(files)).collect();
    let author: Vec<usize> =
        sets.iter().enumerate().flat_map(|(set, rows)| vec![set; rows.len()]).collect();
    let examples: Vec<Example> = sets.iter().flatten().map(Example::of).collect();
    let mixed = held_out(&examples, |place| place % FOLDS, FOLDS);
    let others = held_out(&examples, |place| author[place], SETS.len());
    let line = balanced(&examples, &others);
    println!("(easy, hard), mixed folds: {:?}", rates(&examples, &mixed, line));
    println!("(easy, hard), another author held out: {:?}", rates(&examples, &others, line));
    let mut rest = (&examples[..], &others[..]);
    for rows in &sets {
        let (own, after) = rest.0.split_at(rows.len());
        let (logits, logits_after) = rest.1.split_at(rows.len());
        println!("  of them: {:?}", rates(own, logits, line));
        rest = (after, logits_after);
    }
    let learned: Vec<_> = examples.iter().filter(|one| !one.by_rule).collect();
    let Fit(weights) = train(&learned);
    #[expect(clippy::disallowed_methods, reason = "a test may block")]
    std::fs::write(WEIGHTS, written(&quantised(&weights, line))).unwrap();
}

#[test]
#[ignore = "prints how the shipped weights do on the held-out set, by label and kind"]
fn show_the_confusion() {
    let rows = read(&[include_str!("../../../../../models/auto/test.jsonl")]);
    let mut counts: BTreeMap<(&str, &str), (usize, usize)> = BTreeMap::new();
    for row in &rows {
        let tier = judge(&row.conversation(), AutoPolicy::THRESHOLD).tier;
        let count = counts.entry((&row.label, &row.kind)).or_default();
        match tier {
            Tier::Cheap => count.0 += 1,
            Tier::Strong => count.1 += 1,
        }
    }
    for ((label, kind), (cheap, strong)) in counts {
        println!("{label} {kind}: {cheap} cheap, {strong} strong");
    }
}
