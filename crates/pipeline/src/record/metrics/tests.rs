use super::*;

#[test]
fn the_number_of_series_is_bounded() {
    let metrics = Metrics::default();
    for n in 0..TARGETS_MAX {
        let name: Arc<str> = Arc::from(format!("p/m{n}"));
        assert_eq!(metrics.name(&name), name);
    }
    assert_eq!(&*metrics.name(&Arc::from("p/one-more")), OTHER);
    assert_eq!(&*metrics.name(&Arc::from("p/m7")), "p/m7", "known ones go on");
}

#[test]
fn a_label_is_escaped() {
    let metrics = Metrics::default();
    let of = Of { door: "openai_chat", target: Arc::from("p/\"m\"\n") };
    metrics.attempts.get_or_create(&Ended { of, outcome: OK }).inc();
    let line = r#"holdfast_attempts_total{holdfast_door="openai_chat",holdfast_target="p/\"m\"\n",outcome="ok"} 1"#;
    assert!(metrics.text().contains(line), "{}", metrics.text());
}
