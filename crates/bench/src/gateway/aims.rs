//! What the figures are held to, as ratios of one run.

use serde_json::{Value, json};

use crate::report::rounded;

/// Bytes between the largest and the smallest body that are sent.
const BODY_BYTES_BETWEEN: f64 = 999_000.0;
/// A situation in which every peer can be driven.
const PLAIN: &str = "plain_1kb_c16";
const STREAM: &str = "stream53_c16";

/// Adds ratios and aims to the figures.
pub(super) fn judge(figures: &mut Value) {
    let ratios = json!({
        "cpu_plain_vs_nginx": ratio(figures, PLAIN, "nginx"),
        "cpu_stream_vs_nginx": ratio(figures, STREAM, "nginx"),
        "cpu_plain_vs": peers(figures, PLAIN),
        "cpu_stream_vs": peers(figures, STREAM),
        "body_slope_vs_nginx": slope_ratio(figures),
        "stream_c1_added_p50_ms": added(figures),
        "rss_idle_mb": figures["rss_bytes"]["idle"]["holdfast"].as_f64().map(|bytes| rounded(bytes / 1_048_576.0)),
        "rss_growth_mb_over_last_half": growth(figures),
    });
    let aims = json!({
        "cpu_plain_vs_nginx": 2.5,
        "cpu_stream_vs_nginx": 1.8,
        "cpu_plain_vs": 1.0,
        "cpu_stream_vs": 1.0,
        "body_slope_vs_nginx": 1.5,
        "stream_c1_added_p50_ms": 0.5,
        "rss_idle_mb": 60.0,
    });
    figures["met"] = met(&ratios, &aims);
    figures["ratios"] = ratios;
    figures["aims"] = aims;
}

/// Which aims are met; those that could not be measured are not there. Of several peers, all count.
fn met(ratios: &Value, aims: &Value) -> Value {
    let Some(aims) = aims.as_object() else { return Value::Null };
    let of = |(name, aim): (&String, &Value)| {
        let (ratio, aim) = (&ratios[name], aim.as_f64()?);
        let is_met = match ratio.as_object() {
            Some(peers) if peers.is_empty() => return None,
            Some(peers) => peers.values().all(|one| one.as_f64().is_some_and(|one| one < aim)),
            None => ratio.as_f64()? <= aim,
        };
        Some((name.clone(), json!(is_met)))
    };
    aims.iter().filter_map(of).collect::<serde_json::Map<_, _>>().into()
}

/// The last line of the report.
pub(super) fn line(figures: &Value) -> String {
    format!(
        "ratios: {}\naims:   {}\nmet:    {}",
        figures["ratios"], figures["aims"], figures["met"]
    )
}

fn cpu(figures: &Value, label: &str, system: &str) -> Option<f64> {
    figures["results"][label][system]["cpu_us"].as_f64()
}

fn ratio(figures: &Value, label: &str, base: &str) -> Option<f64> {
    let ours = cpu(figures, label, "holdfast")?;
    let theirs = cpu(figures, label, base).filter(|theirs| *theirs > 0.0)?;
    Some(rounded(ours / theirs))
}

/// Our processor time over each peer's: below one is less than theirs.
fn peers(figures: &Value, label: &str) -> Value {
    let of =
        |peer: &&str| ratio(figures, label, peer).map(|ratio| ((*peer).to_owned(), json!(ratio)));
    let all = ["sglang-router", "tensorzero", "litellm", "portkey"];
    all.iter().filter_map(of).collect::<serde_json::Map<_, _>>().into()
}

/// How much more a byte of body costs us than nginx.
fn slope_ratio(figures: &Value) -> Option<f64> {
    let slope = |system: &str| {
        let (small, large) = (cpu(figures, PLAIN, system)?, cpu(figures, "plain_1mb_c16", system)?);
        Some((large - small) / BODY_BYTES_BETWEEN)
    };
    let nginx = slope("nginx").filter(|nginx| *nginx > 0.0)?;
    Some(rounded(slope("holdfast")? / nginx))
}

fn added(figures: &Value) -> Option<f64> {
    let p50 = |system: &str| figures["results"]["stream53_c1"][system]["p50_ms"].as_f64();
    Some(rounded(p50("holdfast")? - p50("direct")?))
}

fn growth(figures: &Value) -> Option<f64> {
    let samples = figures["memory_over_requests"].as_array()?;
    let rss = |sample: &Value| sample["rss_bytes"].as_f64();
    // The sample that was taken when half of the requests were sent.
    let half = (samples.len() / 2).checked_sub(1)?;
    let (middle, last) = (rss(samples.get(half)?)?, rss(samples.last()?)?);
    Some(rounded((last - middle) / 1_048_576.0))
}
