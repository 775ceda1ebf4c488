//! The members of all channels.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use super::around::{Around, Bounds, Now, Plan};
use super::gathered::Gathered;
use super::member::{MemberId, Present, Presented, Who};
use super::room::Room;
use crate::broker::Broker;
use crate::change::StateRefusal;
use crate::channel::ChannelName;
use crate::moment::Moment;
use crate::protocol::message::PresenceChange;

/// What [`Registry::advance`] has done.
#[derive(Debug, Default)]
pub struct Advanced {
    /// Who came and who left.
    pub gathered: Vec<Gathered>,
    /// Channels whose members are counted from now on, because a list of them found no room.
    pub counted: Vec<(ChannelName, StateRefusal)>,
}

/// Who is in which channel. Every method may be called from any thread.
///
/// Somebody calls [`Registry::advance`] when something is due. Whoever makes something due earlier than that one knows, wakes it.
pub struct Registry {
    broker: Arc<dyn Broker>,
    bounds: Bounds,
    wake: Box<dyn Fn() + Send + Sync>,
    /// There was a member. Where nobody ever is, nothing is looked up.
    is_used: AtomicBool,
    /// Guards all rooms. Held for one change of a member, or for [`BUDGET`] members that are told: never while anything can wait.
    pub(super) rooms: Mutex<Rooms>,
}

#[derive(Debug, Default)]
pub(super) struct Rooms {
    rooms: HashMap<ChannelName, Room>,
    /// The channels of each client.
    of_client: HashMap<MemberId, SmallVec<[ChannelName; 1]>>,
    /// When each room has something to do.
    dues: BTreeSet<(Moment, ChannelName)>,
    due_of: HashMap<ChannelName, Moment>,
    /// When the one who advances comes by itself. `None`: it does not.
    planned: Option<Moment>,
    last_number: u64,
}

impl Registry {
    /// Without members. `wake` is called when the one who advances has to come earlier than it was told.
    pub fn new(broker: Arc<dyn Broker>, bounds: Bounds, wake: impl Fn() + Send + Sync + 'static) -> Self {
        let (is_used, rooms) = (AtomicBool::new(false), Mutex::default());
        Self { broker, bounds, wake: Box::new(wake), is_used, rooms }
    }

    /// Whether there was ever a member.
    pub fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Acquire)
    }

    /// A session is subscribed to a channel, for the first time or again. It is somebody for others; with `None` the application has to
    /// say it. Then a number is returned with which it does ([`Registry::know`]).
    pub fn join(
        &self,
        channel: &ChannelName,
        client: MemberId,
        subject: Option<&str>,
        plan: Plan,
        now: Now,
    ) -> Option<u64> {
        self.is_used.store(true, Ordering::Release);
        let mut rooms = self.lock();
        rooms.last_number += 1;
        let number = rooms.last_number;
        let who = subject.map_or(Who::Asked(number), Who::of);
        let is_new =
            self.within(&mut rooms, channel, Some(plan), now, |room, around| room.join(client, who, around));
        let is_new = is_new.unwrap_or(false);
        if is_new {
            rooms.of_client.entry(client).or_default().push(channel.clone());
        }
        self.wake_if_earlier(rooms);
        (is_new && subject.is_none()).then_some(number)
    }

    /// The application says who a member is for others; `None` hides it.
    pub fn know(
        &self,
        channel: &ChannelName,
        client: MemberId,
        number: u64,
        subject: Option<&str>,
        now: Now,
    ) {
        self.in_room(channel, now, |room, around| room.know(client, number, subject, around));
    }

    /// A client says something of itself.
    pub fn change(
        &self,
        channel: &ChannelName,
        client: MemberId,
        change: &PresenceChange,
        now: Now,
    ) -> Presented {
        let done = self.in_room(channel, now, |room, around| room.change(client, change, around));
        done.unwrap_or(Presented::NotHere)
    }

    /// A session is not subscribed to a channel any more.
    pub fn leave(&self, channel: &ChannelName, client: MemberId, now: Now) {
        self.in_room(channel, now, |room, around| room.leave(client, around));
        let mut rooms = self.lock();
        if let Some(channels) = rooms.of_client.get_mut(&client) {
            channels.retain(|other| other != channel);
            if channels.is_empty() {
                rooms.of_client.remove(&client);
            }
        }
    }

    /// A session is over.
    pub fn end(&self, client: MemberId, now: Now) {
        let channels = self.lock().of_client.remove(&client);
        for channel in channels.into_iter().flatten() {
            self.in_room(&channel, now, |room, around| room.leave(client, around));
        }
    }

    /// A session has lost its connection, and waits for its client.
    pub fn cut(&self, client: MemberId, now: Now) {
        let channels = self.lock().of_client.get(&client).cloned();
        for channel in channels.into_iter().flatten() {
            self.in_room(&channel, now, |room, around| room.cut(client, around));
        }
    }

    /// Somebody is about to read who is in a channel.
    pub fn open(&self, channel: &ChannelName, plan: Plan, now: Now) {
        if plan.counts {
            self.is_used.store(true, Ordering::Release);
            let mut rooms = self.lock();
            self.within(&mut rooms, channel, Some(plan), now, Room::open);
            self.wake_if_earlier(rooms);
        }
    }

    /// Who is in a channel, in no order.
    pub fn present(&self, channel: &ChannelName) -> Vec<Present> {
        self.lock().rooms.get(channel).map_or_else(Vec::new, Room::present)
    }

    /// When to call [`Registry::advance`]. The caller comes by itself then, or is woken before.
    pub fn due(&self) -> Option<Moment> {
        if !self.is_used() {
            return None;
        }
        let mut rooms = self.lock();
        rooms.planned = rooms.first();
        rooms.planned
    }

    /// Does what is due, but not too much at once: then it is due again.
    pub fn advance(&self, now: Now) -> Advanced {
        let mut advanced = Advanced::default();
        if !self.is_used() {
            return advanced;
        }
        let (mut budget, mut rooms) = (BUDGET, self.lock());
        while budget > 0
            && let Some((due, channel)) = rooms.dues.first().cloned()
            && due <= now.moment
        {
            // A room without members that can be told costs something, too.
            budget -= 1;
            let done = self.within(&mut rooms, &channel, None, now, |room, around| {
                (room.advance(&mut budget, around), room.take_refused())
            });
            let Some((turns, refused)) = done else { continue };
            if let Some(refusal) = refused {
                advanced.counted.push((channel.clone(), refusal));
            }
            if !turns.is_empty() {
                advanced.gathered.push(Gathered { channel, turns });
            }
        }
        advanced
    }

    /// Who came and who left since that was told last. For the end of a server, after which nothing is due.
    pub fn last(&self) -> Vec<Gathered> {
        let mut rooms = self.lock();
        let gathered = rooms.rooms.iter_mut().map(|(channel, room)| (channel.clone(), room.take_turns()));
        let gathered = gathered.map(|(channel, turns)| Gathered { channel, turns });
        gathered.filter(|gathered| !gathered.turns.is_empty()).collect()
    }

    /// Does something with a room, if there is one.
    fn in_room<T>(
        &self,
        channel: &ChannelName,
        now: Now,
        act: impl FnOnce(&mut Room, &Around<'_>) -> T,
    ) -> Option<T> {
        if !self.is_used() {
            return None;
        }
        let mut rooms = self.lock();
        let done = self.within(&mut rooms, channel, None, now, act);
        self.wake_if_earlier(rooms);
        done
    }

    /// Does something with a room, which is made if there is a plan for it. Notes when it is due afterwards, or drops it.
    fn within<T>(
        &self,
        rooms: &mut Rooms,
        channel: &ChannelName,
        plan: Option<Plan>,
        now: Now,
        act: impl FnOnce(&mut Room, &Around<'_>) -> T,
    ) -> Option<T> {
        let around = Around { now, broker: &*self.broker, bounds: &self.bounds };
        let room = match (rooms.rooms.entry(channel.clone()), plan) {
            (Entry::Occupied(entry), _) => entry.into_mut(),
            (Entry::Vacant(entry), Some(plan)) => {
                entry.insert(Room::new(ChannelName::presence_of(channel), plan))
            }
            (Entry::Vacant(_), None) => return None,
        };
        let done = act(room, &around);
        let due = room.due().filter(|_| !room.is_over());
        if room.is_over() {
            rooms.rooms.remove(channel);
        }
        rooms.note_due(channel, due);
        Some(done)
    }

    fn wake_if_earlier(&self, mut rooms: MutexGuard<'_, Rooms>) {
        let first = rooms.first();
        if first.is_some_and(|first| rooms.planned.is_none_or(|planned| first < planned)) {
            rooms.planned = first;
            drop(rooms);
            (self.wake)();
        }
    }

    /// A panic under the lock is a bug of ours; what is there then is at most an entry that is not up to date.
    fn lock(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rooms {
    fn first(&self) -> Option<Moment> {
        self.dues.first().map(|(moment, _)| *moment)
    }

    fn note_due(&mut self, channel: &ChannelName, due: Option<Moment>) {
        if self.due_of.get(channel).copied() == due {
            return;
        }
        let before = match due {
            Some(due) => self.due_of.insert(channel.clone(), due),
            None => self.due_of.remove(channel),
        };
        if let Some(before) = before {
            self.dues.remove(&(before, channel.clone()));
        }
        if let Some(due) = due {
            self.dues.insert((due, channel.clone()));
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Registry").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

/// Members that are told in one step: about half a millisecond.
const BUDGET: usize = 256;
