//! Ids: a visible prefix and a UUIDv7 in lower-case Crockford base32 (26 characters).
//!
//! All are made by [`Ids`], the one seam for randomness, so that tests can fix them. They sort by
//! the time at which they were made. An id read from outside is only ever compared, never trusted
//! to be well formed.

use std::cell::RefCell;
use std::fmt;
use std::sync::Mutex;

use data_encoding::{Encoding, Specification};
use serde::{Deserialize, Serialize};

use crate::clock::SharedClock;

/// Characters of an id after its prefix.
pub const ID_BODY_CHARS: usize = 26;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// What its text begins with.
            pub const PREFIX: &'static str = $prefix;

            /// A new id.
            pub fn new(ids: &Ids) -> Self {
                Self(ids.text($prefix))
            }

            /// Takes a text that came from outside or from the store as an id, if it has the
            /// prefix.
            pub fn parse(text: &str) -> Option<Self> {
                text.starts_with($prefix).then(|| Self(text.to_owned()))
            }

            /// The text, prefix included.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    )*};
}

ids! {
    /// One Call.
    CallId = "hfc_";
    /// One try of one target.
    AttemptId = "att_";
    /// One agent's durable state.
    SessionId = "sess_";
    /// One journaled action in a session.
    StepId = "step_";
    /// Money held against budgets for one Call.
    ReservationId = "rsv_";
    /// An API key (not its secret).
    KeyId = "key_";
    /// A limit on money.
    BudgetId = "bud_";
    /// A durable claim of a part of a budget by a node.
    SliceId = "slc_";
    /// A stored response of the Responses API.
    ResponseId = "resp_";
    /// One running process of `holdfast serve`, new at each start.
    NodeId = "node_";
}

/// Makes ids and other random texts.
#[derive(Debug)]
pub struct Ids {
    clock: SharedClock,
    crockford: Encoding,
    source: Source,
}

#[derive(Debug)]
enum Source {
    System,
    Seeded(Mutex<u64>),
}

impl Ids {
    /// Ids from the machine's randomness.
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, crockford: crockford(), source: Source::System }
    }

    /// Ids that are the same for the same seed and clock, for tests.
    pub fn seeded(clock: SharedClock, seed: u64) -> Self {
        Self { clock, crockford: crockford(), source: Source::Seeded(Mutex::new(seed)) }
    }

    /// `prefix` followed by a new UUIDv7 in Crockford base32.
    pub fn text(&self, prefix: &str) -> String {
        let millis = u64::try_from(self.clock.now().millis()).unwrap_or(0);
        let mut random = [0u8; 10];
        self.fill(&mut random);
        let uuid = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        let mut text = String::with_capacity(prefix.len() + ID_BODY_CHARS);
        text.push_str(prefix);
        self.crockford.encode_append(uuid.as_bytes(), &mut text);
        text
    }

    /// `prefix` followed by `bytes` random bytes in hexadecimal, for ids whose form a client's API
    /// fixes.
    pub fn hex(&self, prefix: &str, bytes: usize) -> String {
        let mut random = vec![0u8; bytes];
        self.fill(&mut random);
        let mut text = String::with_capacity(prefix.len() + 2 * bytes);
        text.push_str(prefix);
        data_encoding::HEXLOWER.encode_append(&random, &mut text);
        text
    }

    /// A new secret of an API key: `hf_` and 256 random bits.
    pub fn key_secret(&self) -> String {
        let mut random = [0u8; 32];
        match &self.source {
            // A secret's bytes never lie in a buffer that outlives it.
            Source::System => fill_from_system(&mut random),
            Source::Seeded(_) => self.fill(&mut random),
        }
        format!("hf_{}", self.crockford.encode(&random))
    }

    /// A random number in `0.0..1.0`, for jitter.
    pub fn fraction(&self) -> f64 {
        let mut random = [0u8; 4];
        self.fill(&mut random);
        f64::from(u32::from_le_bytes(random)) / (f64::from(u32::MAX) + 1.0)
    }

    fn fill(&self, bytes: &mut [u8]) {
        match &self.source {
            Source::System => fill_from_pool(bytes),
            Source::Seeded(state) => {
                let mut state = state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                bytes.fill_with(|| splitmix(&mut state));
            }
        }
    }
}

/// Random bytes that a thread takes from the system at once: a system call for each of a Call's ids
/// costs more than making the id.
const POOL_BYTES: usize = 512;

/// A thread's random bytes.
struct Pool {
    bytes: [u8; POOL_BYTES],
    /// How many of them were used; all at first.
    used: usize,
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; POOL_BYTES], used: POOL_BYTES }) };
}

/// Random bytes, each given once.
fn fill_from_pool(bytes: &mut [u8]) {
    if bytes.len() > POOL_BYTES {
        return fill_from_system(bytes);
    }
    POOL.with_borrow_mut(|pool| {
        if POOL_BYTES - pool.used < bytes.len() {
            fill_from_system(&mut pool.bytes);
            pool.used = 0;
        }
        let given = &mut pool.bytes[pool.used..pool.used + bytes.len()];
        bytes.copy_from_slice(given);
        given.fill(0);
        pool.used += bytes.len();
    });
}

#[expect(clippy::expect_used, reason = "without randomness no id is safe, so nothing may go on")]
fn fill_from_system(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("invariant: the machine has a source of randomness");
}

/// One byte of SplitMix64 (Steele, Lea and Flood 2014): enough for tests, never for secrets.
fn splitmix(state: &mut u64) -> u8 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (mixed ^ (mixed >> 31)).to_le_bytes()[0]
}

#[expect(clippy::expect_used, reason = "the alphabet is a constant")]
fn crockford() -> Encoding {
    let mut specification = Specification::new();
    specification.symbols.push_str("0123456789abcdefghjkmnpqrstvwxyz");
    specification.encoding().expect("invariant: 32 distinct symbols are an encoding")
}

#[cfg(test)]
mod tests;
