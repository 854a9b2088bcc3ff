//! Tables on the terminal.

use serde_json::Value;

/// Rows under their headings, columns as wide as their widest cell.
pub(crate) fn render(headings: &[&str], rows: &[Vec<String>]) -> String {
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
    let head: Vec<String> = headings.iter().map(|&heading| heading.to_owned()).collect();
    let mut lines = vec![line(&head)];
    lines.extend(rows.iter().map(|row| line(row)));
    if rows.is_empty() {
        lines.push("(none)".to_owned());
    }
    lines.join("\n")
}

/// The rows of an answer's `data`, one cell per field.
pub(crate) fn rows(answer: &Value, fields: &[&str]) -> Vec<Vec<String>> {
    let data = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    data.iter().map(|row| fields.iter().map(|field| cell(&row[*field])).collect()).collect()
}

/// A value as a cell: one line, without what a terminal would act on. Models, tools and clients
/// wrote some of it.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => shown(text),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            shown(&value.to_string())
        }
    }
}

fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let answer = json!({ "data": [{ "id": "a", "n": 12 }, { "id": "long", "n": null }] });
        let fields = ["id", "n"];
        assert_eq!(render(&fields, &rows(&answer, &fields)), "id    n\na     12\nlong  -");
        assert_eq!(render(&fields, &[]), "id  n\n(none)");
    }

    #[test]
    fn what_others_wrote_stays_on_its_line() {
        assert_eq!(cell(&json!("a\n\u{1b}[2Jb ü")), "a\\n\\u{1b}[2Jb ü");
    }
}
