//! `${NAME}` in any string of the file is the environment variable's value; `$${` is a plain `${`.

use toml::{Table, Value};

use super::Problems;

/// Substitutes in every string of the table.
pub(super) fn all(
    table: &mut Table,
    environment: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) {
    for (key, value) in table.iter_mut() {
        one(value, key, environment, problems);
    }
}

fn one(
    value: &mut Value,
    at: &str,
    environment: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) {
    match value {
        Value::String(text) => match substitute(text, environment) {
            Ok(Some(substituted)) => *text = substituted,
            Ok(None) => {}
            Err(message) => problems.add(at, message),
        },
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                one(item, &format!("{at}[{index}]"), environment, problems);
            }
        }
        Value::Table(table) => {
            for (key, value) in table.iter_mut() {
                one(value, &format!("{at}.{key}"), environment, problems);
            }
        }
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
    }
}

/// `None` if there is nothing to substitute.
fn substitute(
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<String>, String> {
    if !text.contains("${") {
        return Ok(None);
    }
    let (mut done, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            done.push_str(&rest[..at - 1]);
            done.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        done.push_str(&rest[..at]);
        let (name, behind) = rest[at + 2..].split_once('}').ok_or("has a ${ without its }")?;
        let value = environment(name)
            .ok_or_else(|| format!("the environment variable {name} is not set"))?;
        done.push_str(&value);
        rest = behind;
    }
    done.push_str(rest);
    Ok(Some(done))
}
