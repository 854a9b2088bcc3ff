use super::*;

/// Feeds `text` in every possible chunk size and expects the same answer each time.
fn read(stops: &[&str], calls: bool, bytes: &[u8]) -> (String, Vec<(String, String)>) {
    let mut first = None;
    for size in 1..=bytes.len().max(1) {
        let stops = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut output = Output::new(stops, calls);
        let mut pieces = Vec::new();
        bytes.chunks(size).for_each(|chunk| output.push(chunk, &mut pieces));
        output.finish(&mut pieces);
        let answer = join(&pieces);
        assert_eq!(first.get_or_insert_with(|| answer.clone()), &answer, "chunks of {size}");
    }
    first.unwrap()
}

fn join(pieces: &[Piece]) -> (String, Vec<(String, String)>) {
    let (mut text, mut calls) = (String::new(), Vec::<(String, String)>::new());
    for piece in pieces {
        match piece {
            Piece::Text(part) => text.push_str(part),
            Piece::Reasoning(part) => panic!("unexpected reasoning {part}"),
            Piece::ToolCall(part) => {
                let index = usize::try_from(part.index).unwrap();
                if let Some(name) = &part.name {
                    assert_eq!(index, calls.len(), "indexes have no gaps");
                    calls.push((name.clone(), String::new()));
                }
                calls[index].1.push_str(&part.arguments);
            }
        }
    }
    (text, calls)
}

fn call(name: &str, arguments: &str) -> (String, String) {
    (name.to_owned(), arguments.to_owned())
}

#[test]
fn text_leaves_in_whole_code_points() {
    assert_eq!(read(&[], false, "aé漢🦀z".as_bytes()).0, "aé漢🦀z");
    assert_eq!(read(&[], false, b"a\xF0\x9F").0, "a\u{FFFD}");
    let mut pieces = Vec::new();
    let mut output = Output::new(Vec::new(), false);
    output.push("é".as_bytes().split_at(1).0, &mut pieces);
    assert!(pieces.is_empty(), "half a code point left: {pieces:?}");
}

#[test]
fn the_first_stop_sequence_ends_the_text_and_is_not_part_of_it() {
    assert_eq!(read(&["###", "\nUser"], false, b"one ## two\nUser: ###").0, "one ## two");
    assert_eq!(read(&["abc"], false, b"ababc").0, "ab");
    assert_eq!(read(&["xyz"], false, b"ends with xy").0, "ends with xy");
}

#[test]
fn calls_are_split_into_name_and_arguments() {
    let text = "I look. \n<tool_call>\n{\"name\": \"get\", \"arguments\": {\"q\": \"}\\\"é]\", \"n\": [1, {}]}}\n</tool_call>\n<tool_call>\n{\"name\": \"a\\\"b\", \"arguments\": {}}\n</tool_call>";
    let (text, calls) = read(&[], true, text.as_bytes());
    assert_eq!(text, "I look.");
    let expected = [call("get", "{\"q\": \"}\\\"é]\", \"n\": [1, {}]}"), call("a\"b", "{}")];
    assert_eq!(calls, expected);
}

#[test]
fn without_tools_a_call_is_text_and_text_may_follow_a_call() {
    assert_eq!(read(&[], false, b"<tool_call>\nx").0, "<tool_call>\nx");
    let text = b"<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n done <tool";
    assert_eq!(read(&[], true, text), ("\n done <tool".to_owned(), vec![call("f", "{}")]));
}

#[test]
fn a_stop_sequence_in_arguments_is_an_argument() {
    let text = b"<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"STOP\"}}\n</tool_call>";
    assert_eq!(read(&["STOP"], true, text).1, vec![call("f", "{\"a\": \"STOP\"}")]);
}
