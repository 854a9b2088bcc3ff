//! Which sequence of the context holds whose state.
//!
//! A slot is busy while a generation runs in it, else idle with what the last one left. State is
//! only ever found by its exact owner, so nothing is shared between accounts. `held` says exactly
//! what the context's sequence holds.

use crate::job::JobOwner;
use crate::llama::Token;
use crate::prompt::common_prefix;

/// A shared prefix shorter than this is not worth taking a slot that another account's prompt could
/// use.
const SHARED_PREFIX_MIN: usize = 16;

/// One sequence.
#[derive(Debug, Default)]
pub(super) struct Slot {
    owner: Option<JobOwner>,
    /// Tokens whose state the sequence holds.
    pub(super) held: Vec<Token>,
    /// Tokens that were generated behind them and not computed.
    pub(super) tail: Vec<Token>,
    busy: bool,
    /// Whether what it holds may be written to disk.
    persist: bool,
    /// A session's state that is to be on disk and is not.
    dirty: bool,
    /// When it was last used, in turns of [`Slots::clock`].
    used: u64,
}

/// All sequences.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    clock: u64,
}

/// What a generation finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The owner's own state is in this slot.
    Held(usize),
    /// This slot is to be emptied and taken.
    Empty(usize),
}

/// The context's number of a slot.
pub(super) fn sequence(slot: usize) -> u32 {
    u32::try_from(slot).unwrap_or(u32::MAX)
}

impl Slots {
    /// So many empty slots.
    pub(super) fn new(count: u32) -> Self {
        let slots = (0..count).map(|_| Slot::default()).collect();
        Self { slots, clock: 0 }
    }

    /// The slot.
    pub(super) fn get_mut(&mut self, slot: usize) -> &mut Slot {
        &mut self.slots[slot]
    }

    /// The slot.
    pub(super) fn get(&self, slot: usize) -> &Slot {
        &self.slots[slot]
    }

    /// Where a generation of `owner` with this prompt can run; `None` if all are busy.
    pub(super) fn find(&self, owner: &JobOwner, prompt: &[Token]) -> Option<Place> {
        if owner.session.is_some() {
            if let Some(slot) = self.idle_of(owner) {
                return Some(Place::Held(slot));
            }
        } else if let Some(slot) = self.shared(owner, prompt) {
            return Some(Place::Held(slot));
        }
        let idle = self.slots.iter().enumerate().filter(|(_, slot)| !slot.busy);
        // Empty ones first, then those that hold no session, then the session that was unused
        // longest.
        let order = |slot: &Slot| match &slot.owner {
            None => (0, 0),
            Some(owner) => (1 + u8::from(owner.session.is_some()), slot.used),
        };
        idle.min_by_key(|(_, slot)| order(slot)).map(|(index, _)| Place::Empty(index))
    }

    /// The idle slot of exactly this owner's session.
    pub(super) fn idle_of(&self, owner: &JobOwner) -> Option<usize> {
        let is_it = |slot: &Slot| !slot.busy && slot.owner.as_ref() == Some(owner);
        self.slots.iter().position(is_it)
    }

    /// The idle slot of the same account, without a session, that shares most of the prompt.
    fn shared(&self, owner: &JobOwner, prompt: &[Token]) -> Option<usize> {
        let idle = self.slots.iter().enumerate();
        let idle = idle.filter(|(_, slot)| !slot.busy && slot.owner.as_ref() == Some(owner));
        let lengths = idle.map(|(index, slot)| (common_prefix(&slot.held, prompt), index));
        let (length, index) = lengths.max()?;
        (length >= SHARED_PREFIX_MIN.min(prompt.len())).then_some(index)
    }

    /// Gives the slot to a generation of `owner`, whose state may be written to disk or not.
    pub(super) fn take(&mut self, index: usize, owner: &JobOwner, persist: bool) {
        let slot = &mut self.slots[index];
        slot.owner = Some(owner.clone());
        slot.persist = persist;
        slot.busy = true;
    }

    /// The generation in the slot has ended. `nothing`: it never came to hold anything.
    pub(super) fn release(&mut self, index: usize, nothing: bool) {
        self.clock += 1;
        let used = self.clock;
        let slot = &mut self.slots[index];
        if nothing || slot.held.is_empty() {
            *slot = Slot::default();
            return;
        }
        slot.busy = false;
        slot.used = used;
        let is_session = slot.owner.as_ref().is_some_and(|owner| owner.session.is_some());
        slot.dirty = is_session && slot.persist;
    }

    /// The slot holds nothing any more.
    pub(super) fn forget(&mut self, index: usize) {
        self.slots[index] = Slot::default();
    }

    /// The slot's state was read from disk.
    pub(super) fn restored(&mut self, index: usize, held: Vec<Token>, tail: Vec<Token>) {
        let slot = &mut self.slots[index];
        (slot.held, slot.tail) = (held, tail);
    }

    /// The slot's state was handed to the store.
    pub(super) fn saved(&mut self, index: usize) {
        self.slots[index].dirty = false;
    }

    /// The idle session whose state has been unsaved longest.
    pub(super) fn oldest_dirty(&self) -> Option<usize> {
        let dirty = self.slots.iter().enumerate().filter(|(_, slot)| slot.is_unsaved());
        dirty.min_by_key(|(_, slot)| slot.used).map(|(index, _)| index)
    }

    /// Whether an idle session's state is unsaved.
    pub(super) fn any_dirty(&self) -> bool {
        self.slots.iter().any(Slot::is_unsaved)
    }

    /// Sessions whose state is held.
    pub(super) fn sessions(&self) -> usize {
        let is_session =
            |slot: &&Slot| slot.owner.as_ref().is_some_and(|owner| owner.session.is_some());
        self.slots.iter().filter(is_session).count()
    }
}

impl Slot {
    /// Whose state it holds.
    pub(super) fn owner(&self) -> Option<&JobOwner> {
        self.owner.as_ref()
    }

    /// Whether it is idle and its session's state is not on disk.
    pub(super) fn is_unsaved(&self) -> bool {
        self.dirty && !self.busy
    }
}
