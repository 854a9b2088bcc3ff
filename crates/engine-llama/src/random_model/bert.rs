//! A BERT of random weights, for tests of vectors: 32-bit floats throughout, so that a plain
//! computation elsewhere reads the same numbers, and a small WordPiece vocabulary in the form that
//! GGUF files have it in (the first piece of a word begins with `▁`, later ones with nothing).

use super::writer::{Gguf, Kind};
use super::{CONTROL, NORMAL, Options, Random, shape};

/// What stands for an unknown word.
const UNKNOWN: u32 = 2;
const SPECIALS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
/// Characters that begin a word and, letters and digits only, go on with one.
const CHARACTERS: &str = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?-'\"()你好世界д";
/// Longer pieces: of beginnings and of ends.
const BEGINNINGS: [&str; 8] = ["the", "quick", "fox", "dog", "em", "vector", "un", "1234"];
const ENDS: [&str; 6] = ["ing", "ed", "bed", "ly", "s", "able"];
/// How far norms' weights are from one, and biases from zero, at most.
const SMALL: f32 = 0.2;

pub(super) fn metadata(gguf: &mut Gguf, options: &Options, pooling: u32) {
    gguf.text("general.architecture", "bert");
    gguf.text("general.name", "holdfast-random-bert");
    gguf.number("general.file_type", 0);
    shape(gguf, "bert", options);
    gguf.number("bert.pooling_type", pooling);
    gguf.float("bert.attention.layer_norm_epsilon", 1e-12);
    gguf.flag("bert.attention.causal", false);
    let tokens = tokens();
    let kinds = (0..tokens.len()).map(|place| match place {
        1 => UNKNOWN,
        place if place < SPECIALS.len() => CONTROL,
        _ => NORMAL,
    });
    gguf.text("tokenizer.ggml.model", "bert");
    gguf.text("tokenizer.ggml.pre", "default");
    gguf.number("tokenizer.ggml.token_type_count", 2);
    gguf.texts("tokenizer.ggml.tokens", &tokens);
    gguf.numbers("tokenizer.ggml.token_type", &kinds.collect::<Vec<_>>());
    for (name, id) in
        [("padding", 0), ("unknown", 1), ("bos", 2), ("cls", 2), ("seperator", 3), ("mask", 4)]
    {
        gguf.number(&format!("tokenizer.ggml.{name}_token_id"), id);
    }
}

fn tokens() -> Vec<String> {
    let mut tokens: Vec<String> = SPECIALS.iter().map(|name| (*name).to_owned()).collect();
    tokens.extend(CHARACTERS.chars().map(|character| format!("▁{character}")));
    tokens.extend(BEGINNINGS.iter().map(|text| format!("▁{text}")));
    let letters = CHARACTERS.chars().filter(char::is_ascii_alphanumeric);
    tokens.extend(letters.map(String::from));
    // One of the ends is a letter, which is there.
    tokens.extend(ENDS.iter().filter(|end| end.len() > 1).map(|end| (*end).to_owned()));
    tokens
}

pub(super) fn tensors(gguf: &mut Gguf, options: &Options) {
    let (width, feed) = (options.width, options.feed_forward);
    let words = u32::try_from(tokens().len()).unwrap_or(u32::MAX);
    gguf.tensor("token_embd.weight", Kind::F32, width, words);
    gguf.tensor("position_embd.weight", Kind::F32, width, options.context);
    gguf.tensor("token_types.weight", Kind::F32, width, 2);
    gguf.tensor("token_embd_norm.weight", Kind::F32, width, 1);
    gguf.tensor("token_embd_norm.bias", Kind::F32, width, 1);
    for layer in 0..options.layers {
        let mut tensor = |name: &str, columns, rows| {
            gguf.tensor(&format!("blk.{layer}.{name}.weight"), Kind::F32, columns, rows);
            gguf.tensor(&format!("blk.{layer}.{name}.bias"), Kind::F32, rows, 1);
        };
        for name in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            tensor(name, width, width);
        }
        tensor("ffn_up", width, feed);
        tensor("ffn_down", feed, width);
        for name in ["attn_output_norm", "layer_output_norm"] {
            gguf.tensor(&format!("blk.{layer}.{name}.weight"), Kind::F32, width, 1);
            gguf.tensor(&format!("blk.{layer}.{name}.bias"), Kind::F32, width, 1);
        }
    }
}

/// One row of a tensor.
pub(super) fn fill(name: &str, row: &mut [u8], random: &mut Random) {
    random.fill(row);
    let columns = u16::try_from(row.len() / 4).unwrap_or(u16::MAX);
    let (middle, most) = match name {
        name if name.ends_with("norm.weight") => (1.0, SMALL),
        name if name.ends_with(".bias") => (0.0, SMALL),
        name if name.contains("embd") || name.contains("types") => (0.0, 1.0),
        // Sums over a row keep the size of what goes in, and attention tells tokens apart.
        _ => (0.0, 2.0 / f32::from(columns).sqrt()),
    };
    for number in row.chunks_exact_mut(4) {
        let [low, high, ..] = *number else { continue };
        let drawn = f32::from(i16::from_le_bytes([low, high])) / f32::from(i16::MAX);
        number.copy_from_slice(&(middle + drawn * most).to_le_bytes());
    }
}
