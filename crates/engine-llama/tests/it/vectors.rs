//! Vectors of texts: batches, limits, what is refused, and who has to wait for whom.

use engine::protocol::{
    EngineFailure, FailureCode, FromEngine, TEXTS_BYTES_MAX, TEXTS_MAX, ToEngine, unpack,
};

use crate::engine_process::{Engine, World, greedy};

const SHAPE: &str = "--width 64 --feed-forward 128 --layers 2 --heads 4";

fn bert(more: &str) -> World {
    World::of(&format!("--architecture bert --context 128 {SHAPE} {more}"))
}

fn decoder(pooling: &str) -> World {
    World::of(&format!("--context 2048 {SHAPE} --kv-heads 2 --vocab 1024 --pooling {pooling}"))
}

/// Asks for vectors without waiting.
fn begin(engine: &mut Engine, id: u64, texts: &[&str]) {
    let texts = texts.iter().map(|text| (*text).to_owned()).collect();
    let account = "default".to_owned();
    let request = engine::protocol::Embed { id, account, texts, ..Default::default() };
    engine.send(&ToEngine::Embed(Box::new(request)));
}

/// Waits for the vectors of one request; others' messages are dropped.
fn finish(engine: &mut Engine, id: u64) -> Result<(Vec<Vec<f32>>, u64), EngineFailure> {
    let mut vectors = Vec::new();
    loop {
        match engine.read().unwrap() {
            FromEngine::Vector { id: it, index, numbers } if it == id => {
                vectors.push((index, unpack(&numbers).unwrap()));
            }
            FromEngine::Embedded { id: it, prompt_tokens } if it == id => {
                vectors.sort_by_key(|(index, _)| *index);
                let places: Vec<_> = vectors.iter().map(|(index, _)| *index).collect();
                assert!(places.into_iter().eq(0..u32::try_from(vectors.len()).unwrap()));
                return Ok((
                    vectors.into_iter().map(|(_, vector)| vector).collect(),
                    prompt_tokens,
                ));
            }
            FromEngine::Failed { id: it, failure } if it == id => return Err(failure),
            _ => {}
        }
    }
}

fn embed(engine: &mut Engine, texts: &[&str]) -> (Vec<Vec<f32>>, u64) {
    begin(engine, 7, texts);
    finish(engine, 7).unwrap()
}

fn cosine(one: &[f32], other: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
}

const TEXTS: [&str; 6] = [
    "the quick fox",
    "a",
    "embedding vectors, unable!",
    "你好世界",
    "Grüße aus Köln",
    "\u{7f}\u{0}",
];

#[test]
fn a_batch_gives_what_single_texts_give() {
    let worlds = [bert(""), bert("--pooling cls"), bert("--pooling last"), decoder("last")];
    for world in worlds {
        let mut engine = world.start(&[]);
        let (batch, tokens) = embed(&mut engine, &TEXTS);
        let mut counted = 0;
        for (text, vector) in TEXTS.iter().zip(&batch) {
            let (single, tokens) = embed(&mut engine, &[text]);
            counted += tokens;
            assert!(cosine(&single[0], vector) > 0.99999, "{text}");
            let length: f64 = vector.iter().map(|number| f64::from(*number).powi(2)).sum();
            assert!((length - 1.0).abs() < 1e-5 && vector.len() == 64, "{text}: {length}");
        }
        assert_eq!(tokens, counted);
        assert!(cosine(&batch[0], &batch[3]) < 0.99, "texts differ");
    }
}

#[test]
fn pooling_is_what_the_file_says() {
    let texts = ["the quick fox"];
    let of = |world: World| embed(&mut world.start(&[]), &texts).0.remove(0);
    let [mean, cls, last] = [bert(""), bert("--pooling cls"), bert("--pooling last")].map(of);
    assert!(cosine(&mean, &cls) < 0.999 && cosine(&cls, &last) < 0.999);
}

#[test]
fn a_text_longer_than_a_batch_is_whole_in_a_decoder() {
    let text = "word ".repeat(300);
    let longer = format!("{text}x");
    for pooling in ["last", "mean", "cls"] {
        let world = decoder(pooling);
        let mut engine = world.start(&[]);
        let (vectors, tokens) = embed(&mut engine, &[&text, &longer, "x"]);
        assert!(tokens > 2 * 600, "{tokens}");
        let same = cosine(&vectors[0], &vectors[1]);
        // The first token sees nothing of what comes; the last one is another.
        match pooling {
            "cls" => assert!(same > 0.99999, "{same}"),
            "mean" => assert!(same > 0.9 && same < 1.0, "{same}"),
            _ => assert!(same < 0.9999, "{same}"),
        }
    }
}

#[test]
fn limits_are_named_and_nothing_is_cut() {
    let world = bert("");
    let mut engine = world.start(&[]);
    let mut refused = |texts: &[&str]| {
        begin(&mut engine, 9, texts);
        finish(&mut engine, 9).unwrap_err()
    };
    let fits = "a ".repeat(126);
    let long = "a ".repeat(127);
    let failure = refused(&["a", &long]);
    assert_eq!(failure.code, FailureCode::ContextLengthExceeded);
    assert!(failure.message.contains("'input[1]' has 129 tokens"), "{}", failure.message);
    assert!(failure.message.contains("128") && failure.param.as_deref() == Some("input"));
    assert_eq!(refused(&[]).code, FailureCode::InvalidRequest);
    assert_eq!(refused(&vec!["a"; TEXTS_MAX + 1]).code, FailureCode::InvalidRequest);
    let huge = "a".repeat(TEXTS_BYTES_MAX);
    assert_eq!(refused(&[&huge, "b"]).code, FailureCode::InvalidRequest);
    let (vectors, tokens) = embed(&mut engine, &[&fits]);
    assert_eq!((vectors.len(), tokens), (1, 128));
    let (vectors, _) = embed(&mut engine, &vec!["a"; TEXTS_MAX]);
    assert_eq!(vectors.len(), TEXTS_MAX);
    let account = "default".to_owned();
    let request = engine::protocol::Embed {
        id: 11,
        account,
        texts: vec!["a".to_owned(); 3],
        tokens_max: Some(8),
        ..Default::default()
    };
    engine.send(&ToEngine::Embed(Box::new(request)));
    let failure = finish(&mut engine, 11).unwrap_err();
    assert!(failure.message.contains("9 tokens"), "{}", failure.message);
}

#[test]
fn an_answer_is_not_a_vector_nor_a_vector_an_answer() {
    let world = bert("");
    let mut engine = world.start(&[]);
    let failure = engine.run(greedy("hello")).failed.unwrap();
    assert_eq!(failure.code, FailureCode::InvalidRequest);
    assert!(failure.message.contains("embeddings"), "{}", failure.message);
    let world = World::new();
    let mut engine = world.start(&[]);
    begin(&mut engine, 5, &["hello"]);
    let failure = finish(&mut engine, 5).unwrap_err();
    assert_eq!(failure.code, FailureCode::InvalidRequest);
}

#[test]
fn a_small_request_does_not_wait_for_a_large_one_and_a_cancel_ends_that() {
    let world = bert("");
    let mut engine = world.start(&[]);
    let texts = vec!["the quick fox, the quick dog"; TEXTS_MAX];
    begin(&mut engine, 1, &texts);
    begin(&mut engine, 2, &["a"]);
    let mut of_the_first = 0;
    loop {
        match engine.read().unwrap() {
            FromEngine::Vector { id: 1, .. } => of_the_first += 1,
            FromEngine::Embedded { id: 2, .. } => break,
            FromEngine::Embedded { id: 1, .. } => panic!("the large one was first"),
            _ => {}
        }
    }
    assert!(of_the_first < TEXTS_MAX, "{of_the_first}");
    engine.send(&ToEngine::Cancel { id: 1 });
    assert_eq!(finish(&mut engine, 1).unwrap_err().code, FailureCode::Cancelled);
    let stats = engine.stats();
    assert_eq!((stats.active, stats.waiting), (0, 0));
    let (vectors, _) = embed(&mut engine, &["still there"]);
    assert_eq!(vectors.len(), 1);
}

#[test]
fn the_hello_says_what_it_makes() {
    let world = bert("");
    let engine = world.start(&["--context", "64"]);
    let model = engine.hello.as_ref().unwrap().model.clone();
    assert_eq!((model.dimensions, model.context, model.arch.as_str()), (64, 64, "bert"));
    let world = World::new();
    assert_eq!(world.start(&[]).hello.as_ref().unwrap().model.dimensions, 0);
}

/// Makes the row of a token of the embeddings, which stand first in the file, NaN. Where they begin
/// is where a file of other weights begins to differ.
#[expect(clippy::disallowed_methods, reason = "a test waits for its own files")]
fn spoil(world: &World, other: &World, row: usize, row_bytes: usize) {
    let mut bytes = std::fs::read(&world.model).unwrap();
    let other = std::fs::read(&other.model).unwrap();
    let begin = bytes.iter().zip(&other).position(|(one, other)| one != other).unwrap();
    let begin = begin - begin % 32 + row * row_bytes;
    bytes[begin..begin + row_bytes].fill(0xff);
    std::fs::write(&world.model, bytes).unwrap();
}

#[test]
fn numbers_that_are_not_finite_reach_no_other_text() {
    // The second character of the BERT's, a letter's byte of the decoder's; 34 bytes for 32
    // numbers.
    let cases = [
        (bert(""), bert("--seed 2"), 6, 64 * 4),
        (decoder("last"), decoder("last --seed 2"), usize::from(b'b'), 64 / 32 * 34),
    ];
    for (world, other, row, row_bytes) in cases {
        spoil(&world, &other, row, row_bytes);
        let mut engine = world.start(&[]);
        let (sound, _) = embed(&mut engine, &["a c"]);
        // One of many tokens leaves its numbers where later texts are computed.
        let spoilt = format!("{}b", "a ".repeat(40));
        begin(&mut engine, 1, &["a c", "c"]);
        begin(&mut engine, 2, &["a", &spoilt]);
        begin(&mut engine, 3, &["a c"]);
        let (mut whole, mut vectors) = (0, Vec::new());
        while whole < 2 {
            match engine.read().unwrap() {
                FromEngine::Vector { id: 1 | 3, index: 0, numbers } => vectors.push(numbers),
                FromEngine::Embedded { id: 1 | 3, .. } => whole += 1,
                FromEngine::Failed { id: 1 | 3, failure } => panic!("{}", failure.message),
                _ => {}
            }
        }
        for numbers in vectors {
            assert!(cosine(&unpack(&numbers).unwrap(), &sound[0]) > 0.99999);
        }
        begin(&mut engine, 4, &[&spoilt]);
        let failure = finish(&mut engine, 4).unwrap_err();
        assert_eq!(failure.code, FailureCode::Internal);
        assert!(failure.message.contains("'input[0]' has no vector"), "{}", failure.message);
        let (after, _) = embed(&mut engine, &["a c"]);
        assert!(cosine(&after[0], &sound[0]) > 0.99999);
    }
}
