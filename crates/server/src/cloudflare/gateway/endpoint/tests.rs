use super::*;

#[test]
fn an_endpoint_is_a_door_with_or_without_its_version() {
    for (endpoint, expected) in [
        ("chat/completions", Door::Chat),
        ("v1/chat/completions", Door::Chat),
        ("openai/v1/chat/completions", Door::Chat),
        ("chat/completion", Door::Chat),
        ("v1/embeddings", Door::Embeddings),
        ("responses", Door::Responses),
        ("v1/messages", Door::Messages),
        ("messages/count_tokens", Door::CountTokens),
    ] {
        assert_eq!(door(endpoint), Some(expected), "{endpoint}");
    }
    for endpoint in ["", "v1", "completions", "v2/messages", "responses/resp_1", "models"] {
        assert_eq!(door(endpoint), None, "{endpoint}");
    }
}

#[test]
fn geminis_endpoint_names_model_and_method() {
    for endpoint in ["v1beta/models/a:b:generateContent", "models/a:b:generateContent"] {
        let (model, method) = ("a:b".to_owned(), "generateContent".to_owned());
        assert_eq!(door(endpoint), Some(Door::Gemini { model, method }), "{endpoint}");
    }
}
