//! The pipeline from outside, on the real SQLite store, with a clock and targets that tests hold in
//! their hands.

#[cfg(test)]
mod attempts;
#[cfg(test)]
mod bounds;
#[cfg(test)]
mod budgets;
#[cfg(test)]
mod cascades;
#[cfg(test)]
mod continued;
#[cfg(test)]
mod deadlines;
#[cfg(test)]
mod hedges;
#[cfg(test)]
mod journey;
#[cfg(test)]
mod kinds;
#[cfg(test)]
mod names;
#[cfg(test)]
mod opinions;
#[cfg(test)]
mod rates;
#[cfg(test)]
mod reconcile;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod scopes;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod slos;
#[cfg(test)]
mod steps;
#[cfg(test)]
mod summaries;
#[cfg(test)]
mod tries;
#[cfg(test)]
mod values;
#[cfg(test)]
mod world;

/// A file that no `mod` line names is never compiled, and its tests never run.
#[test]
fn no_file_is_forgotten() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it");
    let main = include_str!("main.rs");
    #[expect(clippy::disallowed_methods, reason = "a test may block")]
    let files = std::fs::read_dir(folder).unwrap();
    for file in files {
        let name = file.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        assert!(module == "main" || main.contains(&format!("mod {module};")), "{name}");
    }
}
