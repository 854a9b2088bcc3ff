//! Plain words on the terminal; with `--json` they go to standard error, and one JSON object ends
//! the output.

use serde_json::Value;

use super::Shown;
use super::client::Streamed;
use crate::commands::output;

/// Characters of a text that are shown.
const SHOWN_CHARS: usize = 100;

/// Says what happens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Narrator {
    json: bool,
}

impl Narrator {
    pub(super) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// One paragraph.
    pub(super) fn say(&self, text: &str) -> anyhow::Result<()> {
        if self.json { output::say_aside(text) } else { output::say(text) }
    }

    /// The heading of a part.
    pub(super) fn part(&self, number: u32, title: &str) -> anyhow::Result<()> {
        self.say(&format!("\n{number}. {title}\n"))
    }

    /// What was asked, which tools were called, what was answered.
    pub(super) fn exchange(&self, asked: &str, turn: &Streamed) -> anyhow::Result<()> {
        self.say(&format!("  user       {asked}"))?;
        for call in turn.items("mcp_call") {
            let text = |name: &str| shortened(call[name].as_str().unwrap_or_default());
            self.say(&format!(
                "  tool       {}({}) → {}",
                text("name"),
                text("arguments"),
                text("output")
            ))?;
        }
        self.say(&format!("  assistant  {}", shortened(&turn.text())))
    }

    /// What was shown, as the last line.
    pub(super) fn finish(&self, shown: &Shown) -> anyhow::Result<()> {
        if self.json { output::say(serde_json::to_string(shown)?) } else { Ok(()) }
    }
}

/// A text that fits on a line.
pub(super) fn shortened(text: &str) -> String {
    let line = text.replace('\n', " ");
    match line.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// A number of an answer's field, such as microseconds.
pub(super) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}
