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
fn some_providers_say_more_before_the_path_of_their_api() {
    let of = |slug, endpoint| {
        let Native { provider, model, rest } = native(slug, endpoint);
        (provider, model, rest)
    };
    let chat = "chat/completions";
    assert_eq!(of(AZURE, "east/gpt-5/chat/completions"), (Some("east"), Some("gpt-5"), chat));
    assert_eq!(of(AZURE, chat), (None, None, chat), "the model is in the body");
    assert_eq!(of(AZURE, "openai/v1/responses"), (None, None, "openai/v1/responses"));
    assert_eq!(of(AZURE, "/gpt-5/chat/completions"), (None, None, "/gpt-5/chat/completions"));
    assert_eq!(of("openai", "east/gpt-5/embeddings").1, None);
    let path = "v1/projects/p/locations/us/publishers/google/models/gemini-3:generateContent";
    let (_, model, rest) = of(VERTEX, path);
    assert_eq!((model, rest), (None, "models/gemini-3:generateContent"));
    let (model, method) = ("gemini-3".to_owned(), "generateContent".to_owned());
    assert_eq!(door(rest), Some(Door::Gemini { model, method }));
    assert_eq!(door(of(VERTEX, "v1/projects/p/publishers/anthropic/models/x:rawPredict").2), None);
}

#[test]
fn geminis_endpoint_names_model_and_method() {
    for endpoint in ["v1beta/models/a:b:generateContent", "models/a:b:generateContent"] {
        let (model, method) = ("a:b".to_owned(), "generateContent".to_owned());
        assert_eq!(door(endpoint), Some(Door::Gemini { model, method }), "{endpoint}");
    }
}
