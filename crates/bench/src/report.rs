//! How results are printed: a table for the eye, one JSON object for others.

use serde_json::{Value, json};

/// The middle of a list, zero if it is empty.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    quantile(&mut values, 0.5)
}

/// The value below which `share` of the list lies, zero if it is empty.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an index into a list of measurements"
)]
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = ((values.len() as f64) * share) as usize;
    values.get(index.min(values.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// Three decimals.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// The machine, for results that are kept.
pub(crate) fn machine() -> Value {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(": ")).map(|(_, value)| value.to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    json!({ "cpu": field("model name"), "cores": cores })
}

/// Ends a benchmark: the JSON object, or its figures as the last line.
pub(crate) fn finish(json: bool, mut figures: Value, last_line: &str) {
    if json {
        figures["machine"] = machine();
        println!("{figures}");
    } else {
        println!("\n{last_line}");
    }
}
