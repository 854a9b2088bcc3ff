//! Signed reasoning of other vendors in reasoning items.
//!
//! The items of this API carry one opaque text, `encrypted_content`, that clients send back as it
//! is. Another vendor's signature travels there with a prefix that says whose it is, so that it
//! goes back to that vendor and to nobody else.

use ::types::outcome::Delta;
use serde_json::Value;

use super::items::{Kind, Open};
use super::{EventWriter, added};
use crate::openai_responses::NAME;

/// The `encrypted_content` of a signature.
pub(crate) fn seal(signature: &str, redacted: bool, origin: &str) -> String {
    if origin == NAME {
        return signature.to_owned();
    }
    crate::seal::seal(signature, redacted, origin)
}

/// The signature in an `encrypted_content`, whether it is all there is, and the format of the
/// vendor that made it.
pub(crate) fn unseal(sealed: &str) -> (&str, bool, &'static str) {
    let foreign = crate::seal::unseal(sealed).filter(|(_, _, origin)| *origin != NAME);
    foreign.unwrap_or((sealed, false, NAME))
}

/// The delta that gave a finished item its `encrypted_content`, where [`EventWriter`] wrote it.
pub fn signature_of(item: &Value) -> Option<Delta> {
    let text = |name: &str| item.get(name).and_then(Value::as_str);
    let sealed = text("encrypted_content").filter(|_| text("type") == Some("reasoning"))?;
    let (signature, redacted, origin) = unseal(sealed);
    let (signature, origin) = (signature.to_owned(), origin.to_owned());
    Some(Delta::ReasoningSignature { signature, redacted, origin })
}

impl EventWriter {
    /// Ends the open reasoning item with what signs it. Where none is open, or the text is kept
    /// from everybody, an item of its own says it.
    pub(super) fn seal_reasoning(
        &mut self,
        sealed: String,
        redacted: bool,
        events: &mut Vec<Value>,
    ) {
        let field = || "encrypted_content".to_owned();
        let open = self.open.iter_mut().find(|open| open.kind == Kind::Reasoning);
        if let Some(open) = open.filter(|_| !redacted) {
            open.extra.insert(field(), sealed.into());
            events.extend(self.close_open_item());
            return;
        }
        events.extend(self.close_open_item());
        let id = (self.new_id)(Kind::Reasoning.id_prefix());
        let mut item = Open::new(Kind::Reasoning, id, self.take_output_index());
        item.beside = self.beside();
        let begun = added(item.output_index, &item.item("in_progress"));
        self.emit("response.output_item.added", begun, events);
        item.extra.insert(field(), sealed.into());
        self.finish(&item, "completed", events);
    }
}
