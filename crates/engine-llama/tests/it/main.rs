//! The real engine with a tiny model of random weights, over its socket: what only the whole
//! process can show.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod concurrency;
mod engine_process;
mod hostile;
mod schemas;
mod sessions;
mod validate;
mod vectors;

/// Every file beside this one is a module of it: a forgotten one would be tested by nobody.
#[test]
fn no_file_is_forgotten() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    #[expect(clippy::disallowed_methods, reason = "a test reads its own folder")]
    let entries = std::fs::read_dir(&folder).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test reads its own source")]
    let source = std::fs::read_to_string(folder.join("main.rs")).unwrap();
    for entry in entries {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.strip_suffix(".rs").unwrap();
        assert!(module == "main" || source.contains(&format!("mod {module};")), "{name}");
    }
}
