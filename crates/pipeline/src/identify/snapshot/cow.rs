//! A map of which a changed copy costs little, however much it holds.
//!
//! The entries lie in shards that copies share; a change copies the one shard that it touches. So a
//! hundred thousand keys are a picture of which the next one is made in microseconds, and a look-up
//! is that of a hash map. Invariant: a copy never sees what is changed in another. It must not know
//! what it holds.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

/// Parts of a map; a change copies one of them, and the list of all.
const SHARDS: usize = 512;

/// One part.
type Shard<K, V> = Arc<HashMap<K, V>>;

/// The map.
#[derive(Clone, Debug)]
pub(crate) struct CowMap<K, V> {
    /// None until something is held.
    shards: Arc<[Shard<K, V>]>,
    hasher: RandomState,
    len: usize,
}

impl<K, V> Default for CowMap<K, V> {
    fn default() -> Self {
        Self { shards: Arc::from([]), hasher: RandomState::new(), len: 0 }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> CowMap<K, V> {
    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[cfg(test)]
    const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if self.is_empty() {
            return None;
        }
        self.shards.get(self.place(key))?.get(key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        if self.shards.is_empty() {
            // One empty shard for all of them.
            let empty = Shard::default();
            self.shards = std::iter::repeat_n(empty, SHARDS).collect();
        }
        let place = self.place(&key);
        let shard = Arc::make_mut(&mut self.shards).get_mut(place)?;
        let before = Arc::make_mut(shard).insert(key, value);
        self.len += usize::from(before.is_none());
        before
    }

    pub(crate) fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.get(key)?;
        let place = self.place(key);
        let shard = Arc::make_mut(&mut self.shards).get_mut(place)?;
        let removed = Arc::make_mut(shard).remove(key);
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// All entries, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// All values, in no order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    fn place<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        let hash = self.hasher.hash_one(key) % SHARDS as u64;
        usize::try_from(hash).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_a_map_holds_and_copies_are_apart() {
        let mut map = CowMap::<String, u32>::default();
        assert_eq!((map.remove("a"), map.get("a"), map.len()), (None, None, 0));
        for number in 0..5_000 {
            assert_eq!(map.insert(format!("k{number}"), number), None);
        }
        let before = map.clone();
        assert_eq!(map.insert("k7".to_owned(), 70), Some(7));
        assert_eq!(map.remove("k8"), Some(8));
        assert_eq!((map.get("k7"), map.get("k8"), map.len()), (Some(&70), None, 4_999));
        assert_eq!((before.get("k7"), before.get("k8"), before.len()), (Some(&7), Some(&8), 5_000));
        let sum = |map: &CowMap<String, u32>| map.values().sum::<u32>();
        assert_eq!(sum(&before), 4_999 * 2_500);
        assert_eq!(sum(&map), sum(&before) - 8 + 63);
    }
}
