//! Fields of a chat request for which nobody can say beforehand what they cost.
//!
//! No bound can be given for a Call that uses one, so that a hard budget can't hold it. There is
//! one list: a format asks it of what a client sent, `admit` of what other doors hand on as it
//! came. It must not know what a budget does with the answer.

use std::borrow::Cow;

/// The fields, by what they change.
pub const FIELDS: [&str; 37] = [
    // Tiers and regions have prices of their own: <https://platform.openai.com/docs/pricing>.
    "service_tier",
    "inference_geo",
    // What is kept for a day costs more to write than what is kept for minutes.
    "prompt_cache_retention",
    "speed",
    // Searches, tools and other work that a provider does beside the model, billed apart: OpenAI,
    // OpenRouter, xAI, Perplexity, Alibaba, Groq and proxies in front of them.
    "web_search_options",
    "web_search",
    "search_parameters",
    "enable_search",
    "search_options",
    "return_images",
    "plugins",
    "mcp_servers",
    "compound_custom",
    // Sound and pictures have rates of their own.
    "modalities",
    "audio",
    "image_config",
    // What of a prediction is not taken is billed as output, whatever the cap.
    "prediction",
    // More samples than are answered with.
    "best_of",
    "use_beam_search",
    // Another model, or another seller of the same, at another price: OpenRouter and LiteLLM.
    "models",
    "fallbacks",
    "provider",
    "route",
    "preset",
    "transforms",
    // What a proxy lays over the body: every other field of this list, and the model's name.
    "extra_body",
    "extra_query",
    "options",
    // Other names of the output cap, beside the one that is read.
    "max_output_tokens",
    "max_new_tokens",
    "max_length",
    "num_predict",
    // The request as the model sees it is no longer the request that was sent: vLLM and SGLang.
    "chat_template",
    "chat_template_kwargs",
    "mm_processor_kwargs",
    "media_io_kwargs",
    "prompt_template",
];
/// Values with which such a field asks for nothing that costs more, as JSON without white space.
const USUAL: [&str; 13] = [
    "null",
    "false",
    "[]",
    "1",
    "\"auto\"",
    "\"default\"",
    "\"standard\"",
    "\"in_memory\"",
    "\"flex\"",
    "[\"text\"]",
    // What models that think are told on servers of their own; it changes no more than a word.
    "{\"enable_thinking\":true}",
    "{\"enable_thinking\":false}",
    "{\"thinking\":false}",
];

/// The first field whose cost nobody knows. `json_of` gives a field's value as JSON text, `None`
/// where it is absent.
pub fn surcharge<'a>(
    json_of: impl Fn(&'static str) -> Option<Cow<'a, str>>,
) -> Option<&'static str> {
    let asked = |name: &&'static str| json_of(name).is_some_and(|text| !is_usual(&text));
    FIELDS.into_iter().find(asked)
}

fn is_usual(json: &str) -> bool {
    let plain = |known: &&str| {
        let spoken = json.bytes().filter(|byte| !byte.is_ascii_whitespace());
        spoken.eq(known.bytes())
    };
    USUAL.iter().any(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &'static str, json: &'static str) -> Option<&'static str> {
        surcharge(|field| (field == name).then_some(Cow::Borrowed(json)))
    }

    #[test]
    fn what_another_model_a_search_or_a_template_costs_is_not_known() {
        for (name, json) in [
            ("models", r#"["dear"]"#),
            ("plugins", r#"[{"id":"web"}]"#),
            ("provider", r#"{"order":["dear"]}"#),
            ("chat_template", r#""{{ x }}""#),
            ("chat_template_kwargs", r#"{"documents":true}"#),
            ("extra_body", r#"{"max_tokens":9}"#),
            ("best_of", "2"),
            ("max_new_tokens", "9"),
        ] {
            assert_eq!(asked(name, json), Some(name));
        }
    }

    #[test]
    fn values_that_ask_for_nothing_are_usual_however_they_are_spaced() {
        for (name, json) in [
            ("models", "[ ]"),
            ("best_of", "1"),
            ("enable_search", "false"),
            ("modalities", "[ \"text\" ]"),
            ("chat_template_kwargs", "{ \"enable_thinking\" : false }"),
        ] {
            assert_eq!(asked(name, json), None, "{name}");
        }
    }
}
