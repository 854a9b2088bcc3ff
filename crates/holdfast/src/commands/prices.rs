//! `holdfast models prices`: what the catalogue says that models cost, and where its sources
//! disagree. It asks no server.

use serde_json::{Value, json};
use types::Price;

use super::table;
use crate::catalog::{self, Row};

/// The newest prices of all models whose name contains `name`; with `disagreeing` only those of
/// which the sources say different things.
pub(super) fn list(name: Option<&str>, disagreeing: bool) -> Value {
    let rows = catalog::vendors().flat_map(|vendor| {
        let rows = catalog::rows(vendor).into_iter();
        rows.filter_map(move |row| as_json(vendor, &row, disagreeing))
    });
    let wanted = |row: &Value| {
        let known = row["name"].as_str().unwrap_or_default();
        name.is_none_or(|name| known.contains(name))
    };
    json!({ "data": rows.filter(wanted).collect::<Vec<_>>() })
}

fn as_json(vendor: &str, row: &Row, disagreeing: bool) -> Option<Value> {
    let newest = row.prices.first();
    let differs = newest.is_some_and(|price| !price.disagrees.is_empty());
    (differs || !disagreeing).then(|| {
        json!({
            "name": format!("{vendor}/{}", row.id),
            "price": newest.and_then(|price| price.price(&row.id)),
            "as_of": newest.map(|price| &price.as_of),
            "source": newest.and_then(|price| price.from.as_deref()),
            "other_source_says": newest.map(|price| &price.disagrees).filter(|_| differs),
        })
    })
}

/// The same as people read it.
pub(super) fn show(answer: &Value) -> String {
    let data = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<Vec<String>> = data.iter().map(line).collect();
    let heads =
        ["name", "$/M in", "$/M out", "cached", "written", "as of", "source", "the other says"];
    table::render(&heads, &rows)
}

fn line(row: &Value) -> Vec<String> {
    let price = serde_json::from_value::<Option<Price>>(row["price"].clone()).ok().flatten();
    let rate = |rate: fn(&Price) -> Option<String>| match &price {
        None => "unpriced".to_owned(),
        Some(price) => rate(price).unwrap_or_default(),
    };
    let other = row["other_source_says"].as_object().into_iter().flatten();
    let other: Vec<String> =
        other.map(|(rate, said)| format!("{rate} {}", said.as_str().unwrap_or_default())).collect();
    vec![
        table::cell(&row["name"]),
        rate(|price| Some(price.rates.input.per_million())),
        rate(|price| Some(price.rates.output.per_million())),
        rate(|price| Some(price.rates.cached_input?.per_million())),
        rate(|price| Some(price.rates.cache_write?.per_million())),
        table::cell(&row["as_of"]),
        table::cell(&row["source"]),
        other.join(", "),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_narrows_the_list_and_a_check_shows_what_is_in_doubt() {
        let all = list(None, false)["data"].as_array().unwrap().len();
        let claude = list(Some("anthropic/claude-sonnet-4-5"), false);
        let shown = show(&claude);
        assert!(shown.contains("3.00") && shown.contains("15.00"), "{shown}");
        assert!(claude["data"].as_array().unwrap().len() < all);
        let doubtful = list(None, true);
        let doubtful = doubtful["data"].as_array().unwrap();
        assert!(!doubtful.is_empty() && doubtful.len() < all);
        assert!(doubtful.iter().all(|row| row["other_source_says"].is_object()));
    }
}
