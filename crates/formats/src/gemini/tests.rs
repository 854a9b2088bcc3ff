use super::*;

fn path(model: &str, operation: Operation, stream: bool) -> Option<String> {
    let edits = Edits { model, operation, stream, ..Edits::default() };
    GEMINI.path(&edits).map(Cow::into_owned)
}

#[test]
fn the_model_and_the_operation_are_in_the_path() {
    let chat = |model, stream| path(model, Operation::Chat, stream).unwrap();
    assert_eq!(chat("gemini-3-pro", false), "/models/gemini-3-pro:generateContent");
    assert_eq!(chat("gemini-3-pro", true), "/models/gemini-3-pro:streamGenerateContent?alt=sse");
    assert_eq!(chat("models/g", false), "/models/g:generateContent");
    assert_eq!(chat("tunedModels/mine", false), "/tunedModels/mine:generateContent");
    let counted = path("g", Operation::CountTokens, false);
    assert_eq!(counted.as_deref(), Some("/models/g:countTokens"));
    assert_eq!(path("g", Operation::Embed, false), None);
}

#[test]
fn a_models_name_can_add_nothing_to_the_path() {
    let path = path("a b?key=x#y:z%", Operation::Chat, false).unwrap();
    assert_eq!(path, "/models/a%20b%3Fkey%3Dx%23y%3Az%25:generateContent");
}
