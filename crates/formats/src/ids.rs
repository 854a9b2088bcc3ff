//! Ids of tool calls that a target does not take as they are.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// Bytes of the hash that a made id holds.
const ID_BYTES: usize = 12;

/// An id that stands for another: always the same for the same one, so that a call and its result
/// go on to agree.
pub(crate) fn short(id: &str, prefix: &str) -> String {
    let mut made = prefix.to_owned();
    for byte in Sha256::digest(id).iter().take(ID_BYTES) {
        // Writing into a string can't fail.
        let _ok = write!(made, "{byte:02x}");
    }
    made
}
