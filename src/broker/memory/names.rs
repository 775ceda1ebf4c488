//! The channels of a broker, by name.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::HashTable;

use crate::broker::memory::channel::Channel;
use crate::broker::sight::Surveyed;
use crate::channel::{ChannelName, Name};

/// Each channel once. A name is hashed once for each look-up: the hash says in which part it is, and where in the table of that part.
#[derive(Debug)]
pub struct Names {
    parts: [Part; PARTS],
    /// Random keys of this process, so that nobody can choose names that are all in one part.
    random: RandomState,
}

/// Some of the channels. Locked for reading while one is used, so that it can't be dropped between being found and being
/// written; locked for writing to make or drop one.
#[derive(Debug, Default)]
struct Part(RwLock<HashTable<Arc<Channel>>>);

impl Names {
    pub fn new() -> Self {
        Self { parts: std::array::from_fn(|_| Part::default()), random: RandomState::new() }
    }

    /// Does something with a channel, if there is one.
    pub fn with_existing<T>(&self, name: Name<'_>, act: impl FnOnce(&Arc<Channel>) -> T) -> Option<T> {
        let hash = self.hash(name);
        self.part(hash).read().find(hash, |channel| channel.name().as_name() == name).map(act)
    }

    /// Does something with a channel. When there is none, one is made; it counts if nobody else was faster.
    pub fn with<T>(
        &self,
        name: Name<'_>,
        make: impl FnOnce() -> Channel,
        act: impl FnOnce(&Arc<Channel>) -> T,
    ) -> T {
        let hash = self.hash(name);
        let is_it = |channel: &Arc<Channel>| channel.name().as_name() == name;
        if let Some(channel) = self.part(hash).read().find(hash, is_it) {
            return act(channel);
        }
        let mut part = self.part(hash).write();
        let entry = part.entry(hash, is_it, |channel| self.hash(channel.name().as_name()));
        act(entry.or_insert_with(|| Arc::new(make())).get())
    }

    /// Takes out the channel of this name, unless it is to stay. It is asked while nobody uses the channel. What is taken out is
    /// dropped by the caller, without a lock.
    pub fn take(&self, name: &ChannelName, goes: impl FnOnce(&Arc<Channel>) -> bool) -> Option<Arc<Channel>> {
        let hash = self.hash(name.as_name());
        let mut part = self.part(hash).write();
        let found = part.find_entry(hash, |channel| channel.name() == name).ok()?;
        if !goes(found.get()) {
            return None;
        }
        let (taken, _) = found.remove();
        if part.len() < part.capacity() / 8 {
            let twice = part.len() * 2;
            part.shrink_to(twice, |channel| self.hash(channel.name().as_name()));
        }
        Some(taken)
    }

    /// Shows some of them, and returns where the next ones begin.
    pub fn survey(
        &self,
        Surveyed { part, bucket }: Surveyed,
        see: impl FnMut(&Arc<Channel>),
    ) -> Option<Surveyed> {
        let found = self.parts.get(part)?.read();
        let (end, buckets) = (bucket + SURVEYED, found.num_buckets());
        (bucket..end.min(buckets)).filter_map(|index| found.get_bucket(index)).for_each(see);
        if end < buckets {
            return Some(Surveyed { part, bucket: end });
        }
        (part + 1 < PARTS).then_some(Surveyed { part: part + 1, bucket: 0 })
    }

    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.read().len()).sum()
    }

    fn hash(&self, name: Name<'_>) -> u64 {
        self.random.hash_one(name.as_str())
    }

    /// A table looks at the lowest bits of a hash and at the seven highest.
    fn part(&self, hash: u64) -> &Part {
        &self.parts[(hash >> 48) as usize % PARTS]
    }
}

impl Part {
    fn read(&self) -> RwLockReadGuard<'_, HashTable<Arc<Channel>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashTable<Arc<Channel>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Parts of the channels. When the table of one grows or shrinks, its appends wait: 1 ms with a million channels, and not 64.
const PARTS: usize = 64;

/// Places of a table that are looked at while it is locked for reading: at most 0.1 ms, in which no channel is made or dropped in this part.
const SURVEYED: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::memory::account::MemoryAccount;
    use crate::position::Epoch;
    use crate::rules::Rules;

    impl Names {
        pub fn all(&self) -> Vec<Arc<Channel>> {
            self.parts.iter().flat_map(|part| part.read().iter().cloned().collect::<Vec<_>>()).collect()
        }

        /// How many channels could come before a table grows.
        pub fn room(&self) -> usize {
            self.parts.iter().map(|part| part.read().capacity()).sum()
        }
    }

    fn name(number: usize) -> ChannelName {
        ChannelName::new(&number.to_string()).expect("legal")
    }

    #[test]
    fn parts_do_not_wait_for_each_other() {
        let (names, account) = (Names::new(), Arc::new(MemoryAccount::new(1 << 20, 1 << 20)));
        let retention = |name: &ChannelName| Rules::default().retention(name);
        let held = names.parts[0].write();
        let is_elsewhere = |name: &ChannelName| {
            !std::ptr::eq(names.part(names.hash(name.as_name())), &raw const names.parts[0])
        };
        let elsewhere: Vec<_> = (0..1000).map(name).filter(is_elsewhere).collect();
        assert!(elsewhere.len() > 500);
        for name in &elsewhere {
            let make = || Channel::new(name, Epoch::new(1), retention(name), &account);
            names.with(name.as_name(), make, |channel| assert_eq!(channel.name(), name));
        }
        drop(held);
        assert_eq!(names.len(), elsewhere.len());
    }
}
