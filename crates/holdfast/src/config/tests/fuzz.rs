//! Configurations that nobody meant to write: whatever a file says, reading it ends, each problem
//! has a place and a message, and the same file has the same problems again.

use mutations::{changes, mutated};
use proptest::prelude::*;

use super::*;

#[path = "../../../../../fuzz/src/mutations.rs"]
mod mutations;

/// Files that are right but for what this machine lacks.
const SEEDS: [&str; 4] = [
    r#"
[server]
listen = "127.0.0.1:8800"
[[providers]]
name = "garage"
vendor = "openai-compatible"
base_url = "http://10.0.0.5:8000/v1"
api_keys = ["${GARAGE_KEY}", "two"]
models = [{ id = "q", input_usd_per_million = "0.10", output_usd_per_million = "0.40" }, { id = "f", free = true, context_tokens = 2000 }]
[[keys]]
name = "ci"
secret = "hf_0123456789abcdef"
user = "ada"
[[budgets]]
scope = { key = "ci" }
limit_usd = "5.00"
window = "day"
"#,
    r#"
[[routes]]
name = "r"
targets = ["a/b", { model = "c/d", weight = 2, when = "class == 'batch' && metadata.n > 3" }, { when = "stream", targets = ["e/f"] }]
sticky = "metadata.team"
order = "price"
fallback = false
attempts = 3
cooldown = "1h"
hedge = { after = "p95", after_min = "50ms" }
[[routes]]
name = "h"
cloudflare = '''{"name":"x","elements":[{"id":"start","type":"start","outputs":{"next":{"elementId":"m"}}},{"id":"m","type":"model","properties":{"provider":"a","model":"b","retries":0,"timeout":20000},"outputs":{"success":{"elementId":"end"},"fallback":{"elementId":"end"}}},{"id":"end","type":"end","properties":{},"outputs":{}}]}'''
"#,
    r#"
[telemetry]
otlp_endpoint = "http://127.0.0.1:4318"
[[slos]]
name = "fast"
class = "chat"
metric = "time_to_first_token"
threshold = "1s"
objective = "99.9%"
window = "30d"
short_window = "5m"
long_window = "1h"
burn_rate = 14.4
webhook = "https://example.com/hook"
"#,
    r#"
[[mcp_servers]]
name = "notes"
command = ["python3", "notes_server.py"]
keys = ["ci"]
tools = { add_note = { effect = "write" }, find_note = { effect = "read" } }
timeout = "30s"
[[models]]
name = "m"
path = "m.gguf"
"#,
];
const WORDS: [&str; 24] = [
    "[",
    "]]",
    "{",
    "}",
    "=",
    "\"",
    "'''",
    "\n",
    ",",
    ".",
    "-1",
    "99999999999999999999",
    "nan",
    "inf",
    "1e999",
    "\"\"",
    "[[routes]]\n",
    "when = \"\"\n",
    "${",
    "${}",
    "\\u0000",
    "1979-05-27T07:32:00Z",
    "\u{fc}",
    "true",
];

fn read(text: &str) -> Option<Vec<String>> {
    let read = parse(text, Path::new("/etc/holdfast"), &|_| None);
    read.ok().map(|(_, problems)| problems.iter().map(ToString::to_string).collect())
}

#[test]
fn each_seed_is_read() {
    for seed in SEEDS {
        assert!(read(seed).is_some(), "{seed}");
    }
}

proptest! {
    // A failure is a seed to be written down above, not a file beside the test.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn files(
        number in 0..SEEDS.len(),
        other in prop::option::of(0..SEEDS.len()),
        changes in changes(),
    ) {
        let behind = other.filter(|other| *other != number).map_or("", |other| SEEDS[other]);
        let text = mutated(format!("{}{behind}", SEEDS[number]).as_bytes(), &changes, &WORDS);
        let text = String::from_utf8_lossy(&text);
        let Some(problems) = read(&text) else { return Ok(()) };
        for problem in &problems {
            prop_assert!(!problem.starts_with(": ") && !problem.ends_with(": "), "{problem}");
        }
        prop_assert_eq!(Some(problems), read(&text));
    }
}
