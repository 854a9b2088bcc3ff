use super::*;

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn part(part: &str) -> (u32, Option<&'static str>) {
    let list = raw(&format!(r#"[{{"role":"user","content":[{part}]}}]"#));
    let media = media_in(&list, "messages").unwrap();
    (media.count, media.unbounded)
}

fn refused(list: &str) -> String {
    let failure = media_in(&raw(list), "messages").unwrap_err();
    format!("{:?}: {}", failure.param, failure.message)
}

#[test]
fn a_part_is_text_only_if_it_says_so_and_holds_nothing_else() {
    assert_eq!(part(r#"{"type":"text","text":"u"}"#), (0, None));
    assert_eq!(
        part(r#"{"type":"text","text":"u","image_url":null,"cache_control":{}}"#),
        (0, None)
    );
    for hidden in [
        r#"{"image_url":{"url":"https://x/y"}}"#,
        r#"{"video_url":{"url":"https://x/y"}}"#,
        r#"{"text":"u"}"#,
        r#"{"type":null,"text":"u"}"#,
        r#"{"type":"text","text":"u","image_url":{"url":"https://x/y"}}"#,
        r#"{"type":"text","text":"u","Video_URL":{"url":"https://x/y"}}"#,
        r#"{"type":"text","text":"u","file_id":"file-1"}"#,
        r#"{"type":"image_url","image_url":{"url":"x"},"video_url":{"url":"x"}}"#,
        r#"{"type":"image_url","file":{"file_id":"file-1"}}"#,
    ] {
        assert_eq!(part(hidden), (1, Some("content")), "{hidden}");
    }
    assert_eq!(part(r#"{"type":"image_url","image_url":{"url":"x"}}"#), (1, None));
    assert_eq!(part(r#"{"type":"input_image","image_url":"x","detail":"low"}"#), (1, None));
}

#[test]
fn content_that_is_one_part_without_a_list_is_not_text() {
    let list = raw(r#"[{"role":"user","content" : {"type":"image_url"}}]"#);
    let media = media_in(&list, "messages").unwrap();
    assert_eq!((media.count, media.unbounded), (1, Some("content")));
    let text = raw(r#"[{"role":"user","content":"let x = {y: {z: 1}};"}]"#);
    assert_eq!(media_in(&text, "messages").unwrap(), Media::default());
}

#[test]
fn fields_that_look_like_others_are_refused() {
    for list in [
        r#"[{"role":"user","content":"u","Content":[{"type":"image_url"}]}]"#,
        r#"[{"role":"assistant","AUDIO":{"id":"a"}}]"#,
        r#"[{"role":"assistant","Audio":"a"}]"#,
        r#"[{"role":"user","content":[{"type":"text","text":"u","Type":"image_url"}]}]"#,
    ] {
        assert!(refused(list).contains("some providers take it for"), "{list}");
    }
}

#[test]
fn what_is_no_list_of_objects_is_refused_by_name() {
    assert_eq!(
        refused("[[]]"),
        r#"Some("messages"): invalid value for 'messages': expected an array of objects"#
    );
    assert_eq!(
        refused(r#"[{"content":[1]}]"#),
        r#"Some("messages[0].content"): invalid value for 'messages[0].content': expected a string or an array of parts"#
    );
    let many: Vec<String> = (0..=FIELDS_MAX).map(|n| format!(r#""f{n}":[]"#)).collect();
    assert!(refused(&format!("[{{{}}}]", many.join(","))).contains("an array of objects"));
}

#[test]
fn tools_of_the_client_are_bounded_and_the_providers_are_not() {
    let tools = |text: &str| tools_in(Some(&raw(text))).unwrap();
    assert_eq!(tools("null"), Tools::default());
    assert_eq!(tools("[]"), Tools::default());
    let own = r#"{"type":"function","function":{"name":"f"}},{"type":"custom"}"#;
    assert_eq!(tools(&format!("[{own}]")), Tools { any: true, unbounded: None });
    for theirs in [r#"{"type":"web_search"}"#, r#"{"google_search":{}}"#, r#"{"type":null}"#] {
        let both = tools(&format!("[{own},{theirs}]"));
        assert_eq!(both, Tools { any: true, unbounded: Some("tools") }, "{theirs}");
    }
    assert!(tools_in(Some(&raw(r#"[{"type":"function","Type":"web_search"}]"#))).is_err());
    assert!(tools_in(Some(&raw("7"))).is_err());
}
