//! The table of a model: one row of numbers per token, as `model.safetensors` has it.
//!
//! Tensors as model2vec and sentence-transformers name them: the rows; where the vocabulary was
//! quantised, which row a token has (`mapping`) and how much it counts (`weights`).

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::model::Error;

/// Names of the tensor with the rows: model2vec's, and two of sentence-transformers.
const ROWS: [&str; 3] = ["embeddings", "0", "embedding.weight"];
/// Numbers of a row at most: well beyond any model.
const DIMENSIONS_MAX: usize = 16_384;

/// The rows, and which of them a token has.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Rows,
    dimensions: usize,
    mapping: Option<Vec<usize>>,
    weights: Option<Vec<f32>>,
}

/// The numbers, row by row.
#[derive(Debug)]
enum Rows {
    F32(Vec<f32>),
    /// Their scale is lost on purpose: vectors are made as long as one.
    I8(Vec<i8>),
}

impl Table {
    /// Reads the file's bytes. `tokens` is the size of the vocabulary.
    pub(crate) fn read(bytes: &[u8], tokens: usize) -> Result<Self, Error> {
        let tensors =
            SafeTensors::deserialize(bytes).map_err(|error| Error::Weights(error.to_string()))?;
        let rows = ROWS.iter().find_map(|name| tensors.tensor(name).ok());
        let rows = rows.ok_or_else(|| wrong("there is no table of embeddings"))?;
        let &[count, dimensions] = rows.shape() else {
            return Err(wrong("the embeddings are no table"));
        };
        if count == 0 || !(1..=DIMENSIONS_MAX).contains(&dimensions) {
            return Err(wrong("the table of embeddings is empty, or too wide"));
        }
        let mapping = tensors.tensor("mapping").ok().map(|view| places(&view)).transpose()?;
        let weights = tensors.tensor("weights").ok().map(|view| numbers(&view)).transpose()?;
        let rows = match rows.dtype() {
            Dtype::I8 => Rows::I8(rows.data().iter().map(|byte| byte.cast_signed()).collect()),
            _ => Rows::F32(numbers(&rows)?),
        };
        let table = Self { rows, dimensions, mapping, weights };
        table.check(count, tokens)?;
        Ok(table)
    }

    /// Every token must have a row, and every number be one.
    fn check(&self, count: usize, tokens: usize) -> Result<(), Error> {
        let (mapped, largest) = match &self.mapping {
            None => (count, None),
            Some(mapping) => (mapping.len(), mapping.iter().max()),
        };
        if mapped < tokens || largest.is_some_and(|row| *row >= count) {
            return Err(wrong("the vocabulary has tokens without a row"));
        }
        if self.weights.as_ref().is_some_and(|weights| weights.len() < tokens) {
            return Err(wrong("the vocabulary has tokens without a weight"));
        }
        let finite = |numbers: &[f32]| numbers.iter().all(|number| number.is_finite());
        let rows = match &self.rows {
            Rows::F32(rows) => finite(rows),
            Rows::I8(_) => true,
        };
        match rows && self.weights.as_deref().is_none_or(finite) {
            true => Ok(()),
            false => Err(wrong("the table has numbers that are none")),
        }
    }

    pub(crate) const fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Adds the beginning of a token's row to `sum`, as long as that is.
    pub(crate) fn add(&self, token: usize, sum: &mut [f64]) {
        let row = match &self.mapping {
            None => Some(token),
            Some(mapping) => mapping.get(token).copied(),
        };
        let weight = self.weights.as_ref().and_then(|weights| weights.get(token));
        let weight = f64::from(weight.copied().unwrap_or(1.0));
        let Some(start) = row.and_then(|row| row.checked_mul(self.dimensions)) else { return };
        let place = start..start.saturating_add(sum.len());
        match &self.rows {
            Rows::F32(rows) => add(rows.get(place).unwrap_or_default(), weight, sum),
            Rows::I8(rows) => add(rows.get(place).unwrap_or_default(), weight, sum),
        }
    }
}

fn add<T: Copy + Into<f64>>(row: &[T], weight: f64, sum: &mut [f64]) {
    for (sum, number) in sum.iter_mut().zip(row) {
        *sum += (*number).into() * weight;
    }
}

fn wrong(what: &str) -> Error {
    Error::Weights(what.to_owned())
}

fn numbers(view: &TensorView<'_>) -> Result<Vec<f32>, Error> {
    let data = view.data();
    let numbers = match view.dtype() {
        Dtype::F32 => each(data, f32::from_le_bytes),
        Dtype::F16 => each(data, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dtype::BF16 => each(data, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        #[expect(clippy::cast_possible_truncation, reason = "weights of four bytes are enough")]
        Dtype::F64 => each(data, |bytes| f64::from_le_bytes(bytes) as f32),
        other => return Err(wrong(&format!("numbers of type {other:?} can't be read"))),
    };
    Ok(numbers)
}

fn places(view: &TensorView<'_>) -> Result<Vec<usize>, Error> {
    let wide: Vec<i64> = match view.dtype() {
        Dtype::I64 => each(view.data(), i64::from_le_bytes),
        Dtype::I32 => each(view.data(), |bytes| i64::from(i32::from_le_bytes(bytes))),
        other => return Err(wrong(&format!("a mapping of type {other:?} can't be read"))),
    };
    let places: Result<_, _> = wide.into_iter().map(usize::try_from).collect();
    places.map_err(|_| wrong("the mapping leads below the first row"))
}

fn each<const N: usize, T>(data: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    data.as_chunks().0.iter().map(|bytes| read(*bytes)).collect()
}
