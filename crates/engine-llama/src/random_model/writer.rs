//! Writes GGUF files, version 3: metadata, tensor table, aligned tensor data, row by row.
#![expect(clippy::disallowed_methods, reason = "a command that writes one file and ends")]

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::half_bits;

/// Tensor data begin at multiples of this.
const ALIGNMENT: usize = 32;
/// Weights of one quantised block.
const BLOCK: u32 = 32;

/// How a tensor's numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// 32-bit floats.
    F32,
    /// Blocks of 32: a 16-bit scale and four bits each, minus 8.
    Q4_0,
    /// Blocks of 32: a 16-bit scale and a signed byte each.
    Q8_0,
}

impl Kind {
    fn id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::Q4_0 => 2,
            Self::Q8_0 => 8,
        }
    }

    fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4 * BLOCK as usize,
            Self::Q4_0 => 2 + BLOCK as usize / 2,
            Self::Q8_0 => 2 + BLOCK as usize,
        }
    }

    fn row_bytes(self, columns: u32) -> usize {
        (columns / BLOCK) as usize * self.block_bytes()
    }

    /// Sets every block's scale, so that random bytes behind it have about that standard deviation.
    pub(super) fn set_scales(self, row: &mut [u8], deviation: f64) {
        let spread = match self {
            Self::F32 => return,
            // Standard deviations of uniform whole numbers in -8..8 and in -128..128.
            Self::Q4_0 => 4.61,
            Self::Q8_0 => 73.9,
        };
        if self == Self::Q4_0 {
            // Sixteen values around zero have a mean of minus a half, which adds up over a row: -8
            // becomes 0.
            let level = |half: u8| if half == 0 { 8 } else { half };
            row.iter_mut().for_each(|byte| *byte = level(*byte & 15) | (level(*byte >> 4) << 4));
        }
        let scale = half_bits(deviation / spread).to_le_bytes();
        row.chunks_exact_mut(self.block_bytes())
            .for_each(|block| block[..2].copy_from_slice(&scale));
    }
}

struct Tensor {
    name: String,
    kind: Kind,
    columns: u32,
    rows: u32,
}

/// A file in the making.
#[derive(Default)]
pub(super) struct Gguf {
    entries: u64,
    metadata: Vec<u8>,
    tensors: Vec<Tensor>,
}

impl Gguf {
    fn entry(&mut self, key: &str, kind: u32) {
        self.entries += 1;
        put_text(&mut self.metadata, key);
        self.metadata.extend_from_slice(&kind.to_le_bytes());
    }

    fn list(&mut self, key: &str, kind: u32, length: usize) {
        self.entry(key, 9);
        self.metadata.extend_from_slice(&kind.to_le_bytes());
        self.metadata.extend_from_slice(&(length as u64).to_le_bytes());
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.entry(key, 8);
        put_text(&mut self.metadata, value);
    }

    pub(super) fn number(&mut self, key: &str, value: u32) {
        self.entry(key, 4);
        self.metadata.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn float(&mut self, key: &str, value: f32) {
        self.entry(key, 6);
        self.metadata.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn flag(&mut self, key: &str, value: bool) {
        self.entry(key, 7);
        self.metadata.push(u8::from(value));
    }

    pub(super) fn texts(&mut self, key: &str, values: &[String]) {
        self.list(key, 8, values.len());
        values.iter().for_each(|value| put_text(&mut self.metadata, value));
    }

    /// Signed 32-bit numbers, as token types are stored.
    pub(super) fn numbers(&mut self, key: &str, values: &[u32]) {
        self.list(key, 5, values.len());
        values.iter().for_each(|value| self.metadata.extend_from_slice(&value.to_le_bytes()));
    }

    pub(super) fn tensor(&mut self, name: &str, kind: Kind, columns: u32, rows: u32) {
        self.tensors.push(Tensor { name: name.to_owned(), kind, columns, rows });
    }

    /// Writes the file; `fill` makes each row of each tensor.
    pub(super) fn write(
        &self,
        path: &Path,
        mut fill: impl FnMut(&str, Kind, u64, &mut [u8]),
    ) -> io::Result<()> {
        let temporary = path.with_extension("tmp");
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&temporary)?);
        let head = self.head();
        file.write_all(&head)?;
        file.write_all(&vec![0; padding(head.len())])?;
        for tensor in &self.tensors {
            let mut row = vec![0; tensor.kind.row_bytes(tensor.columns)];
            for index in 0..tensor.rows {
                fill(&tensor.name, tensor.kind, u64::from(index), &mut row);
                file.write_all(&row)?;
            }
            file.write_all(&vec![0; padding(row.len() * tensor.rows as usize)])?;
        }
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&temporary, path)
    }

    fn head(&self) -> Vec<u8> {
        let mut head = b"GGUF".to_vec();
        head.extend_from_slice(&3u32.to_le_bytes());
        head.extend_from_slice(&(self.tensors.len() as u64).to_le_bytes());
        head.extend_from_slice(&self.entries.to_le_bytes());
        head.extend_from_slice(&self.metadata);
        let mut offset = 0;
        for tensor in &self.tensors {
            put_text(&mut head, &tensor.name);
            let dimensions: &[u32] =
                if tensor.rows == 1 { &[tensor.columns] } else { &[tensor.columns, tensor.rows] };
            head.extend_from_slice(&u32::try_from(dimensions.len()).unwrap_or(0).to_le_bytes());
            for dimension in dimensions {
                head.extend_from_slice(&u64::from(*dimension).to_le_bytes());
            }
            head.extend_from_slice(&tensor.kind.id().to_le_bytes());
            head.extend_from_slice(&(offset as u64).to_le_bytes());
            let length = tensor.kind.row_bytes(tensor.columns) * tensor.rows as usize;
            offset += length + padding(length);
        }
        head
    }
}

fn padding(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT) - length
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}
