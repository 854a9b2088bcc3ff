//! Fields of a chat request that a provider bills by other rates than those of a text token.
//!
//! No bound can be given for a Call that uses one, so that a hard budget can't hold it. There is
//! one list: a format asks it of what a client sent, `admit` of what other doors hand on as it
//! came. It must not know what a budget does with the answer.

use std::borrow::Cow;

/// Tiers, searches and audio have prices of their own, and what of a prediction is not taken is
/// billed as output, whatever the cap: <https://platform.openai.com/docs/pricing>.
const FIELDS: [&str; 5] =
    ["service_tier", "web_search_options", "modalities", "audio", "prediction"];
/// Values with which such a field asks for nothing that costs more, as JSON without spaces.
const USUAL: [&str; 5] = ["null", "\"auto\"", "\"default\"", "\"flex\"", "[\"text\"]"];

/// The first field that is billed by other rates. `json_of` gives a field's value as JSON text,
/// `None` where it is absent.
pub fn surcharge<'a>(
    json_of: impl Fn(&'static str) -> Option<Cow<'a, str>>,
) -> Option<&'static str> {
    let asked = |name: &&'static str| json_of(name).is_some_and(|text| !USUAL.contains(&&*text));
    FIELDS.into_iter().find(asked)
}
