//! A tool server (MCP over standard input and output) that answers at once and writes down when.

use std::fs::File;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::micros;

/// Serves until its input ends.
pub(crate) fn run(times: &Path) -> anyhow::Result<()> {
    let mut times = File::options().create(true).append(true).open(times)?;
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let at = micros(SystemTime::now());
        let request: Value = serde_json::from_str(&line?)?;
        let Some(id) = request.get("id") else { continue };
        let answer = json!({ "jsonrpc": "2.0", "id": id, "result": result(&request) });
        writeln!(output, "{answer}")?;
        output.flush()?;
        if request["method"] == "tools/call" {
            writeln!(times, "{at} {}", micros(SystemTime::now()))?;
        }
    }
    Ok(())
}

fn result(request: &Value) -> Value {
    match request["method"].as_str().unwrap_or_default() {
        "initialize" => json!({
            "protocolVersion": request["params"]["protocolVersion"],
            "capabilities": { "tools": {} },
            "serverInfo": { "name": "noop", "version": "1" },
        }),
        "tools/list" => {
            json!({ "tools": [{ "name": "noop", "description": "Does nothing", "inputSchema": { "type": "object" } }] })
        }
        "tools/call" => json!({ "content": [{ "type": "text", "text": "ok" }] }),
        _ => json!({}),
    }
}
