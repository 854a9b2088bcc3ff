use super::read::read;
use super::*;

fn line<'a>(table: &'a Table, model: &str) -> &'a Amounts {
    table.iter().find(|((_, name), _)| name == model).unwrap().1
}

#[test]
fn pages_of_both_vendors_and_tables_say_the_same() {
    let usage = r#"{"object":"page","data":[{"start_time":1763683200,"results":[
        {"model":"m","input_tokens":1000,"output_tokens":50,"num_model_requests":2},
        {"model":"m","input_tokens":10,"output_tokens":5}]}]}"#;
    let costs = r#"{"data":[{"start_time":1763683200,"results":[
        {"amount":{"value":0.0000001305,"currency":"usd"},"line_item":"m, input"},
        {"amount":{"value":1.5e-3,"currency":"usd"},"line_item":"m, output"}]}]}"#;
    let anthropic = r#"{"data":[{"starting_at":"2025-11-21T00:00:00Z","results":[{"model":"m",
        "uncached_input_tokens":100,"cache_read_input_tokens":600,
        "cache_creation":{"ephemeral_5m_input_tokens":200,"ephemeral_1h_input_tokens":100},
        "output_tokens":50,"amount":"123.456"}]}]}"#;
    let csv = "Date,Model,\"Input_Tokens\",output_tokens,usd\r\n2025-11-21,\"m, input\",1000,50,0.25\r\n2025-11-21,m,,,\"0.75\"\r\n";
    let day = 1_763_683_200 / DAY;
    for text in [usage, costs, anthropic, csv] {
        let table = read(text).unwrap();
        assert_eq!(table.keys().collect::<Vec<_>>(), [&(day, "m".to_owned())], "{text}");
    }
    let of = |text: &str| *line(&read(text).unwrap(), "m");
    assert_eq!((of(usage).input_tokens, of(usage).output_tokens), (Some(1_010), Some(55)));
    assert_eq!(of(usage).usd, None, "it says none");
    assert_eq!(of(costs).usd, Some(Money::from_nanodollars(1_500_131)));
    assert_eq!(of(anthropic).input_tokens, Some(1_000));
    assert_eq!(of(anthropic).usd.map(|usd| usd.to_string()).as_deref(), Some("1.23456"));
    assert_eq!(of(csv).usd.map(|usd| usd.to_string()).as_deref(), Some("1.00"));
}

#[test]
fn what_can_not_be_read_is_said_and_not_skipped() {
    for (text, why) in [
        ("model,usd\nm,1", "no column for the day"),
        ("day,usd\n2025-11-21,lots", "line 2"),
        ("day,usd\nyesterday,1", "line 2"),
        ("day,input_tokens\n2025-11-21,-4", "line 2"),
        ("day,usd\n2025-11-21,1e400", "line 2"),
        ("{\"rows\":[]}", "neither"),
    ] {
        let error = format!("{:#}", read(text).unwrap_err());
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn a_difference_is_by_day_and_model() {
    let theirs =
        read("day,model,usd,input_tokens\n2025-11-21,m,0.50,10\n2025-11-22,m,1,7").unwrap();
    let mut ours = Table::new();
    let row = json!({
        "target": "p/m", "model_version": null, "started_at": 1_763_683_200_000_000_i64,
        "cost": "0.20", "unreconciled": "0.05", "usage": { "input_tokens": 10 },
    });
    let last = 1_763_683_200 / DAY + 1;
    take(&mut ours, &row, "p", last);
    take(&mut ours, &row, "other", last);
    let lines = compared(&theirs, &ours);
    assert_eq!(lines.len(), 2);
    assert_eq!(
        (&lines[0]["day"], &lines[0]["difference_usd"]),
        (&json!("2025-11-21"), &json!("0.30"))
    );
    assert_eq!(
        (&lines[0]["unreconciled_usd"], &lines[0]["tokens_differ"]),
        (&json!("0.05"), &json!(false))
    );
    assert_eq!(
        (&lines[1]["ledger_usd"], &lines[1]["tokens_differ"]),
        (&json!("0.00"), &json!(true))
    );
}
