use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, View};
use tempfile::TempDir;

use super::*;

/// Words of the tiny model, in the order of their tokens.
const WORDS: [&str; 5] = ["[UNK]", "red", "green", "blue", "far"];
/// Its rows.
const ROWS: [[f32; 3]; 5] =
    [[9.0, 9.0, 9.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 4.0], [-3.0, 0.5, 1.0]];

/// A tensor for [`safetensors::serialize`].
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<u8>,
}

impl View for Tensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        self.data.as_slice().into()
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}

pub(crate) fn floats(shape: &[usize], numbers: &[f32]) -> Tensor {
    let data = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    Tensor { dtype: Dtype::F32, shape: shape.to_vec(), data }
}

fn rows() -> Tensor {
    floats(&[5, 3], ROWS.as_flattened())
}

/// A model's folder.
#[expect(clippy::disallowed_methods, reason = "the test's own files")]
pub(crate) fn folder(config: &str, tensors: &[(&str, Tensor)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let vocabulary: BTreeMap<_, _> = WORDS.iter().zip(0_u32..).collect();
    let tokenizer = serde_json::json!({
        "version": "1.0",
        "truncation": { "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0 },
        "padding": null,
        "added_tokens": [],
        "normalizer": { "type": "Lowercase" },
        "pre_tokenizer": { "type": "Whitespace" },
        "post_processor": null,
        "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]" },
    });
    let put = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    put(TOKENIZER, tokenizer.to_string().as_bytes());
    put(CONFIG, config.as_bytes());
    put(WEIGHTS, &safetensors::serialize(tensors.iter().cloned(), None).unwrap());
    folder
}

/// The tiny model as most are: vectors of length 1.
pub(crate) fn tiny(config: &str) -> StaticModel {
    StaticModel::open(folder(config, &[("embeddings", rows())]).path()).unwrap()
}

fn vector(model: &StaticModel, text: &str) -> Vec<f32> {
    let mut numbers = Vec::new();
    model.embed(text, model.dimensions(), &mut numbers).unwrap();
    numbers
}

#[track_caller]
fn near(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (one, other) in found.iter().zip(expected) {
        assert!((one - other).abs() < 1e-6, "{found:?} is not {expected:?}");
    }
}

#[test]
fn a_vector_is_the_mean_of_the_rows_as_long_as_one() {
    let model = tiny("{}");
    near(&vector(&model, "red"), &[1.0, 0.0, 0.0]);
    // (1, 2, 4) / 3, and then its length.
    let length = 21.0_f32.sqrt();
    near(&vector(&model, "Red green BLUE"), &[1.0 / length, 2.0 / length, 4.0 / length]);
}

#[test]
fn a_model_may_keep_the_length_of_its_means() {
    let model = tiny(r#"{"normalize": false}"#);
    near(&vector(&model, "red green blue"), &[1.0 / 3.0, 2.0 / 3.0, 4.0 / 3.0]);
    near(&vector(&model, "red red"), &[1.0, 0.0, 0.0]);
}

#[test]
fn what_is_not_known_has_no_part_but_is_counted() {
    let model = tiny(r#"{"normalize": false}"#);
    let mut numbers = Vec::new();
    assert_eq!(model.embed("red nothing nobody", 3, &mut numbers).unwrap(), 3);
    near(&numbers, &[1.0, 0.0, 0.0]);
    near(&vector(&model, "nothing"), &[0.0; 3]);
    near(&vector(&tiny("{}"), "nothing"), &[0.0; 3]);
}

#[test]
fn a_text_is_not_cut_though_the_tokenizer_says_so() {
    let mut numbers = Vec::new();
    assert_eq!(tiny("{}").embed("red green blue far far", 3, &mut numbers).unwrap(), 5);
}

#[test]
fn beginnings_of_vectors_are_vectors_where_the_model_says_so() {
    let allowed = |config: &str| (1..=4).filter(|d| tiny(config).allows(*d)).collect::<Vec<_>>();
    assert_eq!(allowed("{}"), [3]);
    assert_eq!(allowed(r#"{"is_matryoshka": true}"#), [1, 2, 3]);
    assert_eq!(allowed(r#"{"matryoshka_dimensions": [2, 9]}"#), [2, 3]);
    let mut numbers = Vec::new();
    tiny("{}").embed("red green blue", 2, &mut numbers).unwrap();
    near(&numbers, &[1.0 / 5.0_f32.sqrt(), 2.0 / 5.0_f32.sqrt()]);
}

#[test]
fn numbers_of_every_width_are_read() {
    let each = |dtype, bytes: &dyn Fn(f32) -> Vec<u8>| {
        let data = ROWS.as_flattened().iter().flat_map(|number| bytes(*number)).collect();
        let tensor = Tensor { dtype, shape: vec![5, 3], data };
        let folder = folder(r#"{"normalize": false}"#, &[("0", tensor)]);
        vector(&StaticModel::open(folder.path()).unwrap(), "far")
    };
    let half = |number| half::f16::from_f32(number).to_le_bytes().to_vec();
    let brain = |number| half::bf16::from_f32(number).to_le_bytes().to_vec();
    near(&each(Dtype::F16, &half), &ROWS[4]);
    near(&each(Dtype::BF16, &brain), &ROWS[4]);
    near(&each(Dtype::F64, &|number| f64::from(number).to_le_bytes().to_vec()), &ROWS[4]);
    #[expect(clippy::cast_possible_truncation, reason = "the rows are small")]
    let byte = |number: f32| vec![(number as i8).cast_unsigned()];
    near(&each(Dtype::I8, &byte), &[-3.0, 0.0, 1.0]);
}

#[test]
fn tokens_of_a_quantised_vocabulary_share_rows_and_have_weights() {
    let places = [0_i64, 1, 1, 0, 1].iter().flat_map(|place| place.to_le_bytes()).collect();
    let mapping = Tensor { dtype: Dtype::I64, shape: vec![5], data: places };
    let tensors = [
        ("embeddings", floats(&[2, 2], &[1.0, 0.0, 0.0, 1.0])),
        ("mapping", mapping),
        ("weights", floats(&[5], &[1.0, 0.5, 2.0, 3.0, 1.0])),
    ];
    let folder = folder(r#"{"normalize": false}"#, &tensors);
    let model = StaticModel::open(folder.path()).unwrap();
    near(&vector(&model, "red green blue"), &[1.0, 2.5 / 3.0]);
}

#[test]
fn what_does_not_fit_together_is_refused_when_it_is_read() {
    let refused = |tensors: &[(&str, Tensor)]| {
        StaticModel::open(folder("{}", tensors).path()).unwrap_err().to_string()
    };
    let few = refused(&[("embeddings", floats(&[4, 3], &[0.0; 12]))]);
    assert!(few.ends_with("tokens without a row"), "{few}");
    assert!(refused(&[("other", rows())]).ends_with("no table of embeddings"));
    assert!(refused(&[("embeddings", floats(&[15], &[0.0; 15]))]).ends_with("no table"));
    let mut wild = ROWS;
    wild[2][1] = f32::NAN;
    let wild = refused(&[("embeddings", floats(&[5, 3], wild.as_flattened()))]);
    assert!(wild.ends_with("numbers that are none"), "{wild}");
    let beyond = [0_i32, 1, 2, 3, 5].iter().flat_map(|place| place.to_le_bytes()).collect();
    let mapping = Tensor { dtype: Dtype::I32, shape: vec![5], data: beyond };
    let beyond = refused(&[("embeddings", rows()), ("mapping", mapping)]);
    assert!(beyond.ends_with("tokens without a row"), "{beyond}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test's own files")]
fn a_folder_without_its_files_says_which_is_missing() {
    let folder = folder("{}", &[("embeddings", rows())]);
    let wrong = || {
        let looked = look(folder.path()).unwrap_err().to_string();
        assert_eq!(looked, StaticModel::open(folder.path()).unwrap_err().to_string());
        looked
    };
    assert!(look(folder.path()).is_ok());
    std::fs::write(folder.path().join(CONFIG), r#"{"normalize": 5}"#).unwrap();
    assert!(wrong().starts_with("config.json: "), "{}", wrong());
    std::fs::remove_file(folder.path().join(TOKENIZER)).unwrap();
    assert!(wrong().starts_with("tokenizer.json: "), "{}", wrong());
    std::fs::remove_file(folder.path().join(WEIGHTS)).unwrap();
    assert!(wrong().starts_with("model.safetensors: "), "{}", wrong());
}

#[test]
fn another_file_is_another_model() {
    let hash = |config| tiny(config).sha256().to_owned();
    assert_eq!(hash("{}"), hash("{}"));
    assert_ne!(hash("{}"), hash(r#"{"normalize": true}"#));
}
