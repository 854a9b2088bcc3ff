//! Mutations of texts that are right, for the fuzz targets that run on stable: the tests of several
//! crates include this file.

use proptest::prelude::*;

/// One change of a seed, at a place from 0 to 1 of it.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Insert(f64, prop::sample::Index),
    Remove(f64, usize),
    Set(f64, u8),
    Repeat(f64, usize),
    Cut(f64),
}

fn change() -> impl Strategy<Value = Change> {
    let place = 0.0..1.0f64;
    prop_oneof![
        (place.clone(), any::<prop::sample::Index>())
            .prop_map(|(at, word)| Change::Insert(at, word)),
        (place.clone(), 1..40usize).prop_map(|(at, length)| Change::Remove(at, length)),
        (place.clone(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (place.clone(), 1..200usize).prop_map(|(at, length)| Change::Repeat(at, length)),
        place.prop_map(Change::Cut),
    ]
}

/// A few changes.
pub(crate) fn changes() -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec(change(), 0..5)
}

/// The text with its changes, of which some insert one of the `words` that a parser trips over.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a place in a short text"
)]
pub(crate) fn mutated(seed: &[u8], changes: &[Change], words: &[&str]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for change in changes {
        let place = |share: &f64| (bytes.len() as f64 * share) as usize;
        match change {
            Change::Insert(at, word) => {
                let at = place(at);
                drop(bytes.splice(at..at, word.get(words).bytes()));
            }
            Change::Remove(at, length) => {
                let at = place(at);
                drop(bytes.drain(at..(at + length).min(bytes.len())));
            }
            Change::Set(at, byte) => {
                let at = place(at);
                bytes.get_mut(at).into_iter().for_each(|one| *one = *byte);
            }
            Change::Repeat(at, length) => {
                let at = place(at);
                let again = bytes[at..(at + length).min(bytes.len())].to_vec();
                drop(bytes.splice(at..at, again));
            }
            Change::Cut(at) => bytes.truncate(place(at)),
        }
    }
    bytes
}
