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
