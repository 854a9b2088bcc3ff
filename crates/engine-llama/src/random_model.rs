//! Writes a model of random weights: a Llama-shaped GGUF file, or a BERT, for benches and tests
//! that need no sense, only work.
//!
//! The same options give the same bytes on every machine. What is not random is on purpose:
//! - The tokenizer is made so that everything the model says greedily tokenizes back to the same
//!   tokens: only tokens of one letter have output weights, all others are equally unlikely. So a
//!   held history and the same history sent as text are the same tokens, and their answers can be
//!   compared.
//! - Numbers of up to four digits are one token each if the vocabulary is large enough.
//!
//! A Llama's weights are random quantised bytes; nothing is computed in floating point.

mod bert;
mod writer;

use std::path::PathBuf;

use anyhow::ensure;

use writer::{Gguf, Kind};

/// The model's shape.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// The file to write; one that is there is replaced once the new one is whole.
    #[arg(long)]
    out: PathBuf,
    /// What kind of model.
    #[arg(long, value_enum, default_value_t = Architecture::Llama)]
    architecture: Architecture,
    /// How the file says that vectors of tokens become one; without it a Llama answers in text, and
    /// a BERT's are means.
    #[arg(long, value_enum)]
    pooling: Option<Pooling>,
    /// Makes other weights.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Width of the model.
    #[arg(long, default_value_t = 896)]
    width: u32,
    /// Width of the feed-forward layers.
    #[arg(long, default_value_t = 4_864)]
    feed_forward: u32,
    /// Layers.
    #[arg(long, default_value_t = 24)]
    layers: u32,
    /// Attention heads.
    #[arg(long, default_value_t = 14)]
    heads: u32,
    /// Heads of keys and values; a BERT has as many as others.
    #[arg(long, default_value_t = 2)]
    kv_heads: u32,
    /// Tokens of the vocabulary; a BERT has its own of about a hundred.
    #[arg(long, default_value_t = 32_000)]
    vocab: u32,
    /// Tokens that the model says it was trained to hold.
    #[arg(long, default_value_t = 4_096)]
    context: u32,
}

/// Kinds of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Architecture {
    /// A decoder.
    Llama,
    /// An encoder.
    Bert,
}

/// How the vectors of a text's tokens become one, with llama.cpp's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Pooling {
    /// They do not.
    None = 0,
    /// Their mean.
    Mean = 1,
    /// The first one.
    Cls = 2,
    /// The last one.
    Last = 3,
    /// A number that says how well two texts fit.
    Rank = 4,
}

const BYTES: u32 = 256;
const SPECIALS: [(&str, u32); 5] = [
    ("<|endoftext|>", CONTROL),
    ("<|im_start|>", CONTROL),
    ("<|im_end|>", CONTROL),
    ("<tool_call>", USER_DEFINED),
    ("</tool_call>", USER_DEFINED),
];
const NORMAL: u32 = 1;
const CONTROL: u32 = 3;
const USER_DEFINED: u32 = 4;
const UNUSED: u32 = 5;
/// Weights of a layer have about this standard deviation.
const LAYER_SCALE: f64 = 0.02;
/// Weights of the embeddings: large, so that what is said depends on what was said before.
const EMBEDDING_SCALE: f64 = 0.5;
/// Weights of the output; decides how far apart letters' probabilities are.
const OUTPUT_SCALE: f64 = 0.05;

/// Writes the model.
///
/// # Errors
/// The shape makes no model, or the disk does not take it.
pub(crate) fn write(options: &Options) -> anyhow::Result<()> {
    let Options { width, feed_forward, heads, kv_heads, .. } = *options;
    ensure!(heads > 0 && kv_heads > 0 && heads % kv_heads == 0, "heads are a multiple of kv-heads");
    ensure!(
        width % heads == 0 && (width / heads) % 2 == 0,
        "the width is heads times an even number"
    );
    ensure!(width % 32 == 0 && feed_forward % 32 == 0, "widths are multiples of 32");
    if options.architecture == Architecture::Bert {
        return write_bert(options);
    }
    let vocabulary = Vocabulary::new(options.vocab)?;
    let mut gguf = Gguf::default();
    metadata(&mut gguf, options, &vocabulary);
    tensors(&mut gguf, options);
    let mut random = Random(options.seed);
    let letters = vocabulary.letters();
    let fill = |name: &str, row: u64, bytes: &mut [u8], random: &mut Random| {
        if name == "output.weight" && !letters.contains(&row) {
            bytes.fill(0);
            return;
        }
        random.fill(bytes);
    };
    gguf.write(&options.out, |name, kind, row, bytes| {
        let scale = match name {
            "output.weight" => OUTPUT_SCALE,
            "token_embd.weight" => EMBEDDING_SCALE,
            _ => LAYER_SCALE,
        };
        match kind {
            Kind::F32 => {
                bytes.chunks_exact_mut(4).for_each(|one| one.copy_from_slice(&1f32.to_le_bytes()))
            }
            Kind::Q4_0 | Kind::Q8_0 => {
                fill(name, row, bytes, &mut random);
                kind.set_scales(bytes, scale);
            }
        }
    })?;
    Ok(())
}

fn write_bert(options: &Options) -> anyhow::Result<()> {
    ensure!(u16::try_from(options.width.max(options.feed_forward)).is_ok(), "that is too wide");
    let (mut gguf, mut random) = (Gguf::default(), Random(options.seed));
    bert::metadata(&mut gguf, options, options.pooling.unwrap_or(Pooling::Mean) as u32);
    bert::tensors(&mut gguf, options);
    gguf.write(&options.out, |name, _, _, bytes| bert::fill(name, bytes, &mut random))?;
    Ok(())
}

/// What every architecture says of its shape.
fn shape(gguf: &mut Gguf, architecture: &str, options: &Options) {
    for (key, value) in [
        ("block_count", options.layers),
        ("context_length", options.context),
        ("embedding_length", options.width),
        ("feed_forward_length", options.feed_forward),
        ("attention.head_count", options.heads),
    ] {
        gguf.number(&format!("{architecture}.{key}"), value);
    }
}

fn metadata(gguf: &mut Gguf, options: &Options, vocabulary: &Vocabulary) {
    let head = options.width / options.heads;
    gguf.text("general.architecture", "llama");
    gguf.text("general.name", "holdfast-random");
    gguf.number("general.file_type", 2);
    shape(gguf, "llama", options);
    for (key, value) in [
        ("attention.head_count_kv", options.kv_heads),
        ("attention.key_length", head),
        ("attention.value_length", head),
        ("rope.dimension_count", head),
        ("vocab_size", options.vocab),
    ] {
        gguf.number(&format!("llama.{key}"), value);
    }
    if let Some(pooling) = options.pooling {
        gguf.number("llama.pooling_type", pooling as u32);
    }
    gguf.float("llama.rope.freq_base", 10_000.0);
    gguf.float("llama.attention.layer_norm_rms_epsilon", 1e-5);
    gguf.text("tokenizer.ggml.model", "gpt2");
    gguf.text("tokenizer.ggml.pre", "gpt-2");
    gguf.texts("tokenizer.ggml.tokens", &vocabulary.tokens);
    gguf.numbers("tokenizer.ggml.token_type", &vocabulary.kinds);
    gguf.texts("tokenizer.ggml.merges", &vocabulary.merges);
    gguf.number("tokenizer.ggml.bos_token_id", BYTES);
    gguf.number("tokenizer.ggml.eos_token_id", BYTES + 2);
    gguf.flag("tokenizer.ggml.add_bos_token", false);
}

fn tensors(gguf: &mut Gguf, options: &Options) {
    let head = options.width / options.heads;
    let (width, feed, keys) = (options.width, options.feed_forward, options.kv_heads * head);
    gguf.tensor("token_embd.weight", Kind::Q8_0, width, options.vocab);
    gguf.tensor("output_norm.weight", Kind::F32, width, 1);
    gguf.tensor("output.weight", Kind::Q8_0, width, options.vocab);
    for layer in 0..options.layers {
        let mut tensor = |name: &str, kind, columns, rows| {
            gguf.tensor(&format!("blk.{layer}.{name}.weight"), kind, columns, rows);
        };
        tensor("attn_norm", Kind::F32, width, 1);
        tensor("ffn_norm", Kind::F32, width, 1);
        tensor("attn_q", Kind::Q4_0, width, width);
        tensor("attn_k", Kind::Q4_0, width, keys);
        tensor("attn_v", Kind::Q4_0, width, keys);
        tensor("attn_output", Kind::Q4_0, width, width);
        tensor("ffn_gate", Kind::Q4_0, width, feed);
        tensor("ffn_up", Kind::Q4_0, width, feed);
        tensor("ffn_down", Kind::Q4_0, feed, width);
    }
}

/// Bytes, special tokens, numbers as far as they fit, and unused ones.
struct Vocabulary {
    tokens: Vec<String>,
    kinds: Vec<u32>,
    merges: Vec<String>,
}

impl Vocabulary {
    fn new(size: u32) -> anyhow::Result<Self> {
        let size = usize::try_from(size)?;
        let mut tokens: Vec<_> = (0..=u8::MAX).map(|byte| byte_letter(byte).to_string()).collect();
        let mut kinds = vec![NORMAL; tokens.len()];
        for (name, kind) in SPECIALS {
            tokens.push(name.to_owned());
            kinds.push(kind);
        }
        ensure!(size > tokens.len(), "a vocabulary has more than {} tokens", tokens.len());
        let mut merges = vec!["Ġ w".to_owned()];
        tokens.push("Ġw".to_owned());
        // All numbers of so many digits, or none: a number's tokens must not depend on its value.
        for digits in 2..=4u32 {
            let count = 10usize.pow(digits);
            if tokens.len() + count > size {
                break;
            }
            let width = digits as usize;
            let numbers: Vec<_> = (0..count).map(|number| format!("{number:0width$}")).collect();
            for cut in 1..width {
                let parts = numbers.iter().map(|number| number.split_at(cut));
                merges.extend(parts.map(|(left, right)| format!("{left} {right}")));
            }
            tokens.extend(numbers);
        }
        kinds.resize(tokens.len(), NORMAL);
        let unused = (tokens.len()..size).map(|index| format!("[unused{index}]"));
        tokens.extend(unused.collect::<Vec<_>>());
        kinds.resize(size, UNUSED);
        Ok(Self { tokens, kinds, merges })
    }

    /// Tokens of one letter, and the space: what the model says.
    fn letters(&self) -> Vec<u64> {
        (0u8..=127)
            .filter(|byte| byte.is_ascii_lowercase() || *byte == b' ')
            .map(u64::from)
            .collect()
    }
}

/// The letter that stands for a byte in GPT-2's vocabularies: itself if it can be seen, else one
/// above U+0100.
fn byte_letter(byte: u8) -> char {
    let seen = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if seen(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|other| !seen(*other)).count();
    u32::try_from(before).ok().and_then(|offset| char::from_u32(0x100 + offset)).unwrap_or('?')
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            mixed ^= mixed >> 31;
            chunk.copy_from_slice(&mixed.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// A 16-bit float (IEEE 754 binary16) of a small positive number, rounded down.
fn half_bits(value: f64) -> u16 {
    // Halves between 2^-14 and 1 are enough for scales: exponent bias 15, ten bits of fraction.
    let mut exponent = 15u16;
    let mut fraction = value;
    while fraction < 1.0 && exponent > 1 {
        fraction *= 2.0;
        exponent -= 1;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the fraction is within 0..1024"
    )]
    let bits = ((fraction - 1.0).clamp(0.0, 0.999) * 1024.0) as u16;
    (exponent << 10) | bits
}
