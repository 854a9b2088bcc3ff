//! Tables on the terminal.

use serde_json::Value;

/// Prints rows under their headings, columns as wide as their widest cell.
pub(crate) fn print(headings: &[&str], rows: &[Vec<String>]) {
    let widths: Vec<usize> = (0..headings.len())
        .map(|column| {
            let cells =
                rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([headings[column].len()]).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    println!("{}", line(&headings.iter().map(|&heading| heading.to_owned()).collect::<Vec<_>>()));
    for row in rows {
        println!("{}", line(row));
    }
    if rows.is_empty() {
        println!("(none)");
    }
}

/// The rows of an answer's `data`, one cell per field.
pub(crate) fn rows(answer: &Value, fields: &[&str]) -> Vec<Vec<String>> {
    let data = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    data.iter().map(|row| fields.iter().map(|field| cell(&row[*field])).collect()).collect()
}

/// A value as a cell.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}
