use super::tree::Tree;
use super::{Finding, blobs, error_pages, manifests, modules, notes, sizes, where_is, words};

fn places(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.place.as_str()).collect()
}

#[test]
fn large_files_stay_out() {
    let large = "x".repeat(100_001);
    let tree = Tree::of(&[
        ("Cargo.lock", &large),
        ("crates/formats/fixtures/stream.txt", &large),
        ("models/demo/demo.gguf", &large),
        ("docs/trace.json", &large),
        ("docs/small.json", &large[1..]),
    ]);
    assert_eq!(places(&blobs::check(&tree)), ["docs/trace.json"]);
}

#[test]
fn codes_and_pages_match() {
    let source = "codes! {\n    /// Nothing.\n    NotFound = \"not_found\", 404, Never;\n    \
                  TooLarge = \"too_large\", 413, Never;\n    \
                  Conflict = \"conflict\", 400, Never;\n}\nconst NAME: &str = \"internal\";\n";
    let tree = Tree::of(&[
        ("crates/types/src/error.rs", source),
        ("docs/errors/README.md", ""),
        ("docs/errors/not_found.md", "HTTP status: 404"),
        ("docs/errors/conflict.md", "HTTP status: 409"),
        ("docs/errors/old_code.md", ""),
    ]);
    let findings = error_pages::check(&tree);
    let expected = ["too_large", "conflict", "old_code"].map(|n| format!("docs/errors/{n}.md"));
    assert_eq!(places(&findings), expected);
}

#[test]
fn codes_that_cannot_be_read_are_a_finding() {
    let tree = Tree::of(&[("crates/types/src/error.rs", "pub enum ErrorCode {}\n")]);
    assert_eq!(places(&error_pages::check(&tree)), ["crates/types/src/error.rs"]);
}

#[test]
fn forgotten_files_are_found() {
    let tree = Tree::of(&[
        ("crates/a/src/lib.rs", "pub mod money;\npub(crate) mod ids;\n// mod gone;\n"),
        ("crates/a/src/money.rs", "#[cfg(test)]\nmod tests;\n"),
        ("crates/a/src/money/tests.rs", ""),
        ("crates/a/src/ids.rs", "#[path = \"odd.rs\"]\nmod even;\n"),
        ("crates/a/src/odd.rs", ""),
        ("crates/a/src/ids/tests.rs", ""),
        ("crates/a/src/gone.rs", ""),
        ("crates/a/tests/it/main.rs", "mod chat;\n"),
        ("crates/a/tests/it/chat.rs", ""),
        ("crates/a/tests/it/lost.rs", ""),
    ]);
    let findings = modules::check(&tree);
    let expected =
        ["crates/a/src/gone.rs", "crates/a/src/ids/tests.rs", "crates/a/tests/it/lost.rs"];
    assert_eq!(places(&findings), expected);
}

#[test]
fn files_are_named_for_what_they_hold() {
    let tree = Tree::of(&[
        ("crates/a/src/main.rs", "mod util;\nmod sse;\n"),
        ("crates/a/src/util.rs", ""),
        ("crates/a/src/sse/mod.rs", ""),
        ("crates/a/tests/chat.rs", ""),
    ]);
    let expected = ["crates/a/src/sse/mod.rs", "crates/a/src/util.rs", "crates/a/tests/chat.rs"];
    assert_eq!(places(&modules::check(&tree)), expected);
}

#[test]
fn notes_name_an_issue() {
    let note = concat!("TO", "DO");
    let text =
        format!("// {note}(#12): later\n// {note}: later\n# {note}(me): x\nlet {note}S = 1;\n");
    let other = concat!("// FIX", "ME now\n");
    let tree = Tree::of(&[("a.rs", &text), ("b.py", other), ("c.md", other)]);
    assert_eq!(places(&notes::check(&tree)), ["a.rs:2", "a.rs:3", "b.py:1"]);
}

#[test]
fn long_files_warn_then_fail() {
    let lines = |count: usize| "x\n".repeat(count);
    let tests_at_end = format!("{}#[cfg(test)]\nmod tests {{\n{}", lines(400), lines(900));
    let tree = Tree::of(&[
        ("crates/a/src/a.rs", &lines(500)),
        ("crates/a/src/b.rs", &lines(501)),
        ("crates/a/src/c.rs", &lines(801)),
        ("crates/a/src/d.rs", &tests_at_end),
        ("crates/a/src/e/tests.rs", &lines(2_000)),
    ]);
    let findings = sizes::check_lengths(&tree);
    assert_eq!(places(&findings), ["crates/a/src/b.rs", "crates/a/src/c.rs"]);
    assert_eq!(findings.iter().map(|f| f.warning).collect::<Vec<_>>(), [true, false]);
    let excepted = [("crates/a/src/c.rs", "a table"), ("crates/a/src/a.rs", "was long")];
    let findings = sizes::check_lengths_except(&tree, &excepted);
    assert_eq!(places(&findings), ["crates/a/src/b.rs", "crates/a/src/a.rs"]);
}

#[test]
fn lines_fit() {
    let wide = "x".repeat(101);
    let narrow = "ä".repeat(100);
    let text = format!("{narrow}\n  // {wide}\n// https://{wide}\n\"{wide}\n{wide}\"\n");
    let tree = Tree::of(&[("crates/a/src/a.rs", &text), ("crates/a/src/a/tests.rs", &text)]);
    let findings = sizes::check_widths(&tree);
    assert_eq!(places(&findings), ["crates/a/src/a.rs:2", "crates/a/src/a.rs:4"]);
    assert_eq!(findings.iter().map(|f| f.warning).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn the_map_is_right() {
    let map = "# A\n`not/checked`\n## Where is what\n| what | where |\n| a | `crates/a/src/a.rs` |\n\
               | b | `crates/b/` and `crates/c/` |\n| say `make test` | `serve` |\n## Next\n| x | `no/x` |\n";
    let files = [("ARCHITECTURE.md", map), ("crates/a/src/a.rs", ""), ("crates/b/Cargo.toml", "")];
    let findings = where_is::check(&Tree::of(&files));
    assert_eq!(places(&findings), ["ARCHITECTURE.md:6"]);
    assert!(findings[0].message.contains("crates/c/"));
    assert_eq!(places(&where_is::check(&Tree::of(&[]))), ["ARCHITECTURE.md"]);
}

#[test]
fn machines_are_not_named() {
    let machine = concat!("see /wo", "rk/main\n");
    let part = concat!("/models/demo/wo", "rk/\n");
    let host = concat!("\"resolved\": \"https://registry.", "npmjs.org/x\"\n");
    let tree = Tree::of(&[("a.md", machine), (".gitignore", part), ("package-lock.json", host)]);
    assert_eq!(places(&words::check(&tree)), ["a.md:1", "package-lock.json:1"]);
}

#[test]
fn crates_take_the_lints() {
    let good = "[lib]\ndoctest = false\n\n[lints]\nworkspace = true\n";
    let tree = Tree::of(&[
        ("crates/a/Cargo.toml", good),
        ("crates/a/src/lib.rs", ""),
        ("crates/b/Cargo.toml", "[lints]\nworkspace = true\n"),
        ("crates/b/src/lib.rs", ""),
        ("crates/c/Cargo.toml", "[package]\n"),
    ]);
    let findings = manifests::check(&tree);
    assert_eq!(places(&findings), ["crates/b/Cargo.toml", "crates/c/Cargo.toml"]);
}
