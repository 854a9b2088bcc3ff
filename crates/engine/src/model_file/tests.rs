use super::*;

#[test]
#[expect(clippy::disallowed_methods, reason = "the test's own files")]
fn what_is_no_model_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    assert!(matches!(inspect(&path), Err(gguf::Error::Io(_))));
    std::fs::write(&path, b"GGUF").unwrap();
    assert!(matches!(inspect(&path), Err(gguf::Error::CutOff)));
    std::fs::write(&path, [b"GGUF".as_slice(), &3u32.to_le_bytes(), &[0; 16]].concat()).unwrap();
    assert!(matches!(inspect(&path), Err(gguf::Error::Missing("general.architecture"))));
    assert!(inspect(folder.path()).is_err(), "a folder");
}

/// A header with an architecture and how it pools.
fn header(architecture: &str, pooling: Option<u64>) -> Header {
    let mut header = Header::default();
    if let Some(pooling) = pooling {
        let key = format!("{architecture}.pooling_type");
        header.values.insert(key, gguf::Value::Number(pooling));
    }
    header
}

#[test]
fn what_a_model_is_for_is_what_its_pooling_says() {
    let of = |architecture, pooling| task(&header(architecture, pooling), architecture);
    for architecture in ["bert", "nomic-bert", "modern-bert", "gemma-embedding", "qwen3"] {
        for pooling in 1..=3 {
            assert!(matches!(of(architecture, Some(pooling)), Ok(Task::Embed)), "{architecture}");
        }
        let ranks = of(architecture, Some(4));
        assert!(matches!(ranks, Err(gguf::Error::Unserved(why)) if why.contains("ranks")));
        assert!(matches!(of(architecture, Some(9)), Err(gguf::Error::Unserved(_))));
    }
    for pooling in [None, Some(0)] {
        assert!(matches!(of("qwen3", pooling), Ok(Task::Generate)));
        let none = of("bert", pooling);
        assert!(matches!(none, Err(gguf::Error::Unserved(why)) if why.contains("none")));
    }
}
