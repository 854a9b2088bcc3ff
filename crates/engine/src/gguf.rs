//! Reads the header of a GGUF model file: what it is, not its weights.
//!
//! The file comes from outside and is hostile: every length is checked against the limits here and
//! against what is left of the file before anything is allocated, strings that nobody asks for are
//! skipped, and nothing recurses. Format:
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3, little-endian.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};

/// Entries of metadata.
const ENTRIES_MAX: u64 = 64 * 1024;
/// Bytes of an entry's name.
const KEY_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of a text that is kept; chat templates are the longest.
const TEXT_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of the whole header; vocabularies are the largest part.
const HEADER_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Why a file is not a model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be read.
    #[error("the file can't be read")]
    Io(#[from] io::Error),
    /// It does not begin as GGUF files do.
    #[error("this is not a GGUF file")]
    NotGguf,
    /// A version that is not known here.
    #[error("GGUF version {0} is not known; 2 and 3 are")]
    Version(u32),
    /// It ends before its header does.
    #[error("the file is cut off in its header")]
    CutOff,
    /// A length or a type that cannot be.
    #[error("the header is damaged: {0}")]
    Damaged(&'static str),
    /// An entry that every model has.
    #[error("the header has no {0}")]
    Missing(&'static str),
    /// A model of a kind that nothing here can ask.
    #[error("{0}")]
    Unserved(&'static str),
}

/// A header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Header {
    /// The metadata that are single values; lists are left out.
    pub values: BTreeMap<String, Value>,
    /// Number of weight tensors.
    pub tensors: u64,
}

/// A single value of metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text. A text that is too long to keep is empty.
    Text(String),
    /// A whole number; negative ones are clamped to zero.
    Number(u64),
    /// A number with a fraction.
    Float(f64),
    /// Yes or no.
    Flag(bool),
}

impl Header {
    /// Reads a header from the start of a file of `length` bytes.
    ///
    /// # Errors
    /// It is no GGUF file, is cut off or damaged, or can't be read.
    pub fn read(file: impl Read, length: u64) -> Result<Self, Error> {
        let left = length.min(HEADER_BYTES_MAX);
        let mut reader = Reader { file: BufReader::new(file), left };
        if reader.array().map_err(|_| Error::NotGguf)? != *b"GGUF" {
            return Err(Error::NotGguf);
        }
        let version = reader.u32()?;
        if !(2..=3).contains(&version) {
            return Err(Error::Version(version));
        }
        let tensors = reader.u64()?;
        let entries = reader.u64()?;
        if entries > ENTRIES_MAX {
            return Err(Error::Damaged("too many entries"));
        }
        let mut values = BTreeMap::new();
        for _ in 0..entries {
            let length = reader.u64()?;
            if length > KEY_BYTES_MAX {
                return Err(Error::Damaged("a name is too long"));
            }
            let key = reader.text(length)?;
            let kind = reader.u32()?;
            if let Some(value) = reader.value(kind)? {
                values.insert(key, value);
            }
        }
        Ok(Self { values, tensors })
    }

    /// A text.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.values.get(key)? {
            Value::Text(text) => Some(text),
            Value::Number(_) | Value::Float(_) | Value::Flag(_) => None,
        }
    }

    /// A whole number.
    pub fn number(&self, key: &str) -> Option<u64> {
        match self.values.get(key)? {
            Value::Number(number) => Some(*number),
            Value::Text(_) | Value::Float(_) | Value::Flag(_) => None,
        }
    }
}

const TEXT: u32 = 8;
const LIST: u32 = 9;

/// Bytes of a value of a fixed size.
fn size_of(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

struct Reader<R> {
    file: BufReader<R>,
    /// Bytes that may still be read.
    left: u64,
}

impl<R: Read> Reader<R> {
    fn take(&mut self, count: u64) -> Result<(), Error> {
        self.left = self.left.checked_sub(count).ok_or(Error::CutOff)?;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        self.take(N as u64)?;
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes).map_err(cut_off)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn text(&mut self, length: u64) -> Result<String, Error> {
        self.take(length)?;
        let mut bytes = Vec::new();
        let read = self.file.by_ref().take(length).read_to_end(&mut bytes)?;
        if read as u64 != length {
            return Err(Error::CutOff);
        }
        String::from_utf8(bytes).map_err(|_| Error::Damaged("a text is no UTF-8"))
    }

    fn skip(&mut self, count: u64) -> Result<(), Error> {
        self.take(count)?;
        let skipped = io::copy(&mut self.file.by_ref().take(count), &mut io::sink())?;
        if skipped == count { Ok(()) } else { Err(Error::CutOff) }
    }

    /// One value; `None` for a list, which is skipped.
    fn value(&mut self, kind: u32) -> Result<Option<Value>, Error> {
        match kind {
            LIST => self.skip_list().map(|()| None),
            TEXT => {
                let length = self.u64()?;
                if length > TEXT_BYTES_MAX {
                    self.skip(length)?;
                    return Ok(Some(Value::Text(String::new())));
                }
                self.text(length).map(|text| Some(Value::Text(text)))
            }
            kind => self.fixed(kind).map(Some),
        }
    }

    fn fixed(&mut self, kind: u32) -> Result<Value, Error> {
        let signed = |value: i64| Value::Number(u64::try_from(value).unwrap_or(0));
        Ok(match kind {
            0 => Value::Number(u64::from(u8::from_le_bytes(self.array()?))),
            1 => signed(i64::from(i8::from_le_bytes(self.array()?))),
            2 => Value::Number(u64::from(u16::from_le_bytes(self.array()?))),
            3 => signed(i64::from(i16::from_le_bytes(self.array()?))),
            4 => Value::Number(u64::from(self.u32()?)),
            5 => signed(i64::from(i32::from_le_bytes(self.array()?))),
            6 => Value::Float(f64::from(f32::from_le_bytes(self.array()?))),
            7 => Value::Flag(self.array::<1>()? != [0]),
            10 => Value::Number(self.u64()?),
            11 => signed(i64::from_le_bytes(self.array()?)),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            _ => return Err(Error::Damaged("a value of an unknown type")),
        })
    }

    fn skip_list(&mut self) -> Result<(), Error> {
        let kind = self.u32()?;
        let count = self.u64()?;
        if kind == TEXT {
            // Each text has a length of its own, so a count that lies ends at the limit or the
            // file's end.
            for _ in 0..count {
                let length = self.u64()?;
                self.skip(length)?;
            }
            return Ok(());
        }
        let size = size_of(kind).ok_or(Error::Damaged("a list of an unknown type"))?;
        let bytes = count.checked_mul(size).ok_or(Error::CutOff)?;
        self.skip(bytes)
    }
}

fn cut_off(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof { Error::CutOff } else { Error::Io(error) }
}
