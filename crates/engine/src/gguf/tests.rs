use proptest::prelude::*;

use super::*;

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn sample() -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend_from_slice(&3u32.to_le_bytes());
    out.extend_from_slice(&7u64.to_le_bytes());
    out.extend_from_slice(&4u64.to_le_bytes());
    text(&mut out, "general.architecture");
    out.extend_from_slice(&TEXT.to_le_bytes());
    text(&mut out, "llama");
    text(&mut out, "tokens");
    out.extend_from_slice(&LIST.to_le_bytes());
    out.extend_from_slice(&TEXT.to_le_bytes());
    out.extend_from_slice(&2u64.to_le_bytes());
    text(&mut out, "a");
    text(&mut out, "b");
    text(&mut out, "scores");
    out.extend_from_slice(&LIST.to_le_bytes());
    out.extend_from_slice(&6u32.to_le_bytes());
    out.extend_from_slice(&2u64.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    text(&mut out, "llama.context_length");
    out.extend_from_slice(&4u32.to_le_bytes());
    out.extend_from_slice(&2_048u32.to_le_bytes());
    out
}

fn read(bytes: &[u8]) -> Result<Header, Error> {
    Header::read(bytes, bytes.len() as u64)
}

#[test]
fn single_values_are_read_and_lists_skipped() {
    let header = read(&sample()).unwrap();
    assert_eq!(header.text("general.architecture"), Some("llama"));
    assert_eq!(header.number("llama.context_length"), Some(2_048));
    assert_eq!((header.values.len(), header.tensors), (2, 7));
}

#[test]
fn every_cut_is_an_error() {
    let whole = sample();
    for length in 0..whole.len() {
        assert!(read(&whole[..length]).is_err(), "cut at {length}");
        // Also when the file claims to be longer than it is.
        assert!(Header::read(&whole[..length], u64::MAX).is_err(), "cut at {length}");
    }
}

#[test]
fn lengths_that_lie_are_refused_without_allocating_for_them() {
    let mut bytes = sample();
    bytes[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(read(&bytes), Err(Error::Damaged(_))));
    let mut bytes = sample();
    bytes[24..32].copy_from_slice(&KEY_BYTES_MAX.to_le_bytes());
    assert!(matches!(read(&bytes), Err(Error::CutOff)));
    assert!(matches!(read(b"not a model"), Err(Error::NotGguf)));
    assert!(matches!(read(b""), Err(Error::NotGguf)));
}

proptest! {
    #[test]
    fn any_damage_is_an_error_or_a_header(at in 0usize..150, value: u8) {
        let mut bytes = sample();
        let at = at % bytes.len();
        bytes[at] = value;
        let _outcome = read(&bytes);
    }
}
