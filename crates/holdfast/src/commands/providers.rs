//! `holdfast providers`: the vendors that a provider can be of, and how well each is known.

use std::process::ExitCode;

use providers::vendor::Auth;
use providers::{Vendor, vendors};
use serde_json::json;
use types::format::Quirks;

use super::{output, table};

/// List the vendors that a provider can be of.
#[derive(Debug, clap::Args)]
pub(crate) struct ProvidersArgs {
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &ProvidersArgs) -> anyhow::Result<ExitCode> {
    let said = if arguments.json {
        let all: Vec<_> = vendors().iter().map(as_json).collect();
        serde_json::to_string_pretty(&json!({ "data": all }))?
    } else {
        let rows: Vec<Vec<String>> = vendors().iter().map(row).collect();
        table::render(&["vendor", "address", "key", "differs", "checked"], &rows)
    };
    output::quietly(output::say(said))?;
    Ok(ExitCode::SUCCESS)
}

fn as_json(vendor: &Vendor) -> serde_json::Value {
    json!({
        "name": vendor.name,
        "format": vendor.format().name(),
        "base_url": vendor.base_url,
        "base_url_form": vendor.base_url_form,
        "auth": vendor.auth,
        "key_env": vendor.key_env,
        "differs": differences(&vendor.quirks),
        "checked": vendor.checked,
        "evidence": vendor.evidence,
    })
}

fn row(vendor: &Vendor) -> Vec<String> {
    let differs = differences(&vendor.quirks);
    vec![
        vendor.name.clone(),
        address(vendor).to_owned(),
        key(vendor),
        if differs.is_empty() { "-".to_owned() } else { differs.join(", ") },
        checked(vendor).to_owned(),
    ]
}

fn address(vendor: &Vendor) -> &str {
    vendor.base_url.as_deref().or(vendor.base_url_form.as_deref()).unwrap_or("-")
}

/// How the key is told, and the variable that usually holds it.
fn key(vendor: &Vendor) -> String {
    let how = match vendor.auth {
        Auth::Bearer => "bearer",
        Auth::XApiKey => "x-api-key",
        Auth::XGoogApiKey => "x-goog-api-key",
        Auth::ApiKey => "api-key",
        Auth::Aws => "aws",
        Auth::None => "none",
    };
    vendor.key_env.as_ref().map_or_else(|| how.to_owned(), |variable| format!("{how} {variable}"))
}

const fn checked(vendor: &Vendor) -> &'static str {
    if vendor.checked { "yes" } else { "no" }
}

/// Where the vendor's servers differ from the format, in words.
fn differences(quirks: &Quirks) -> Vec<String> {
    let Quirks {
        old_output_cap,
        no_stream_options,
        no_developer_role,
        reasoning_field,
        short_call_ids,
        no_user_after_tool,
        continue_fields,
        prefix_path,
        cache_control,
        no_done,
        drops,
        refuses,
    } = quirks;
    let flags = [
        (*old_output_cap, "max_tokens"),
        (*no_stream_options, "no stream_options"),
        (*no_developer_role, "no developer role"),
        (*short_call_ids, "short call ids"),
        (*no_user_after_tool, "no media of results"),
        (*continue_fields, "goes on with an answer"),
        (prefix_path.is_some(), "has a path for an answer's rest"),
        (cache_control.is_some(), "takes cache marks"),
        (*no_done, "no [DONE]"),
    ];
    let mut all: Vec<String> =
        flags.iter().filter(|(set, _)| *set).map(|(_, words)| (*words).to_owned()).collect();
    all.extend(reasoning_field.iter().map(|field| format!("takes {field} back")));
    all.extend(drops.iter().map(|field| format!("drops {field}")));
    all.extend(refuses.iter().map(|field| format!("refuses {field}")));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of `docs/providers.md`.
    fn documented() -> String {
        let line = |vendor: &Vendor| {
            let differs = differences(&vendor.quirks).join(", ");
            let links = vendor.evidence.iter().zip(1..);
            let links: Vec<String> =
                links.map(|(link, number)| format!("[{number}]({link})")).collect();
            format!(
                "| `{}` | `{}` | {} | {differs} | {} | {} |\n",
                vendor.name,
                address(vendor),
                key(vendor),
                checked(vendor),
                links.join(" "),
            )
        };
        let head = "| vendor | address | key | differs | checked | known from |\n| --- | --- | --- | --- | --- | --- |\n";
        format!("{head}{}", vendors().iter().map(line).collect::<String>())
    }

    #[test]
    fn the_page_has_the_table_of_the_rows() {
        let page = include_str!("../../../../docs/providers.md");
        let table = documented();
        assert!(page.contains(&table), "docs/providers.md must have this table:\n{table}");
    }

    #[test]
    fn every_difference_has_words() {
        let all = Quirks {
            old_output_cap: true,
            no_stream_options: true,
            no_developer_role: true,
            reasoning_field: Some("reasoning".to_owned()),
            short_call_ids: true,
            no_user_after_tool: true,
            continue_fields: true,
            prefix_path: Some("/beta/chat/completions".to_owned()),
            cache_control: Some(types::format::CacheControlPlace::Parts),
            no_done: true,
            drops: vec!["seed".to_owned()],
            refuses: vec!["n".to_owned()],
        };
        assert_eq!(
            differences(&all).join(", "),
            "max_tokens, no stream_options, no developer role, short call ids, no media of results, goes on with an answer, has a path for an answer's rest, takes cache marks, no [DONE], takes reasoning back, drops seed, refuses n"
        );
        assert!(differences(&Quirks::default()).is_empty());
    }
}
