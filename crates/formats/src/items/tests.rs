use super::*;

fn raw(json: &str) -> &RawValue {
    serde_json::from_str(json).unwrap()
}

#[test]
fn the_clients_own_items_are_bounded_and_no_others() {
    let read = |item: &str| items_in(raw(&format!("[{item}]")), "input").unwrap();
    for kind in BOUNDED {
        let items = read(&format!(r#"{{"type":"{kind}","id":"x"}}"#));
        assert_eq!((items.unbounded, items.refers), (None, false), "{kind}");
        assert_eq!(items.mcp, kind.starts_with("mcp"), "{kind}");
    }
    for item in [
        r#"{"type":"hologram"}"#,
        r#"{"type":"additional_tools","tools":[{"type":"web_search"}]}"#,
        r#"{"type":"image_generation_call","result":"AA=="}"#,
        r#"{"type":"code_interpreter_call","outputs":[]}"#,
        r#"{"type":"computer_call_output","output":{"type":"computer_screenshot"}}"#,
        r#"{"role":"user","content":[{"type":"input_text","text":"t","prompt_cache_breakpoint":{"ttl":"12h"}}]}"#,
        r#"{"role":"user","content":[{"type":"input_text","text":"t","Prompt_Cache_breakpoint":{}}]}"#,
    ] {
        assert_eq!(read(item).unbounded, Some("input"), "{item}");
    }
    let file = r#"{"role":"user","content":[{"type":"input_file","file_id":"f"}]}"#;
    assert_eq!((read(file).unbounded, read(file).media.count), (Some("input_file"), 1));
    let thought =
        r#"{"type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"t"}]}"#;
    assert_eq!(read(thought), Items::default());
}

#[test]
fn what_stands_for_another_or_is_ours_is_told() {
    let refers = |item: &str| items_in(raw(&format!("[{item}]")), "input").unwrap().refers;
    assert!(refers(r#"{"type":"item_reference","id":"msg_1"}"#));
    assert!(refers(r#"{"id":"msg_1"}"#));
    assert!(refers(r#"{"type":"message","role":"assistant","content":"x","holdfast":{}}"#));
    assert!(!refers(r#"{"role":"user","content":"x"}"#));
    assert!(!refers(r#"{"type":"message","id":"msg_1","role":"assistant","content":"x"}"#));
}

#[test]
fn tools_are_the_clients_ours_or_the_providers() {
    let read = |tool: &str| {
        let tools = tools_in(Some(raw(&format!("[{tool}]"))), "tools").unwrap();
        (tools.unbounded, tools.ours, tools.remote)
    };
    for tool in [
        r#"{"type":"function","name":"f"}"#,
        r#"{"type":"custom","name":"f","format":{"type":"grammar"}}"#,
        r#"{"type":"namespace","name":"n","tools":[{"type":"function","name":"f"}]}"#,
        r#"{"type":"local_shell"}"#,
    ] {
        assert_eq!(read(tool), (None, false, false), "{tool}");
    }
    for tool in [
        r#"{"type":"web_search"}"#,
        r#"{"type":"\u0077eb_search"}"#,
        r#"{"name":"f"}"#,
        r#"{"type":null}"#,
        r#"{"type":"namespace","name":"n","tools":[{"type":"web_search"}]}"#,
        r#"{"type":"namespace","name":"n","tools":[{"type":"namespace","tools":[]}]}"#,
    ] {
        assert_eq!(read(tool), (Some("tools"), false, false), "{tool}");
    }
    for tool in [
        r#"{"type":"mcp","server_label":"n"}"#,
        r#"{"type":"mcp","server_label":"n","server_url":null}"#,
        r#"{"type":"mcp","server_label":"n","server_url":"holdfast:n"}"#,
    ] {
        assert_eq!(read(tool), (None, true, false), "{tool}");
    }
    let remote = r#"{"type":"mcp","server_label":"n","server_url":"https://x"}"#;
    assert_eq!(read(remote), (Some("tools"), false, true));
    assert_eq!(tools_in(None, "tools").unwrap(), Tools::default());
    assert_eq!(tools_in(Some(raw("null")), "tools").unwrap(), Tools::default());
}

#[test]
fn what_readers_would_disagree_about_is_refused() {
    let tool = |json: &str| tools_in(Some(raw(json)), "tools").unwrap_err().param.unwrap();
    assert_eq!(&*tool(r#"[{"type":"function","type":"web_search"}]"#), "tools[0].type");
    assert_eq!(&*tool(r#"[{"Type":"web_search","type":"function"}]"#), "tools[0].Type");
    assert_eq!(&*tool(r#"[{"type":7}]"#), "tools[0].type");
    assert_eq!(&*tool(r#"[7]"#), "tools");
    let twice = r#"[{"type":"message","type":"item_reference","id":"x"}]"#;
    let item = items_in(raw(twice), "input").unwrap_err();
    assert_eq!(item.param.as_deref(), Some("input[0].type"));
}
