use super::*;

#[test]
fn the_number_of_series_is_bounded() {
    let names = Mutex::default();
    for n in 0..TARGETS_MAX {
        let name: Arc<str> = Arc::from(format!("p/m{n}"));
        assert_eq!(known(&names, &name, TARGETS_MAX), name);
    }
    assert_eq!(&*known(&names, &Arc::from("p/one-more"), TARGETS_MAX), OTHER);
    assert_eq!(&*known(&names, &Arc::from("p/m7"), TARGETS_MAX), "p/m7", "known ones go on");
}

#[test]
fn a_label_is_escaped() {
    let metrics = Metrics::default();
    let of = Of { door: "openai_chat", target: Arc::from("p/\"m\"\n") };
    metrics.families.attempts.get_or_create(&Ended { of, outcome: OK }).inc();
    let line = r#"holdfast_attempts_total{holdfast_door="openai_chat",holdfast_target="p/\"m\"\n",outcome="ok"} 1"#;
    assert!(metrics.text(&[], &[]).contains(line), "{}", metrics.text(&[], &[]));
}

#[test]
fn refused_calls_are_counted_by_code_and_class() {
    let metrics = Metrics::default();
    for _ in 0..2 {
        metrics.refused("batch", types::ErrorCode::BudgetExceeded);
    }
    let line = r#"holdfast_refused_total{code="budget_exceeded",class="batch"} 2"#;
    assert!(metrics.text(&[], &[]).contains(line), "{}", metrics.text(&[], &[]));
    for n in 0..CLASSES_MAX {
        metrics.refused(&format!("class {n}"), types::ErrorCode::Overloaded);
    }
    assert!(metrics.text(&[], &[]).contains(r#"code="overloaded",class="other"} 1"#));
}
