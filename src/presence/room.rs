//! The members of one channel.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::around::{Around, Plan};
use super::count::{COUNT_KEY, Count, count_data};
use super::gathered::{Turn, Turns};
use super::member::{Member, Passed, Present, Presented, Who};
use super::pace::Pace;
use crate::broker::PublishError;
use crate::change::StateRefusal;
use crate::channel::ChannelName;
use crate::moment::Moment;
use crate::protocol::message::PresenceChange;
use crate::publication::{Content, EventName};

/// The members of one channel.
#[derive(Debug)]
pub(super) struct Room {
    /// Where its entries are.
    channel: ChannelName,
    plan: Plan,
    members: HashMap<Arc<str>, Member>,
    /// Members that others know to be here.
    listed: usize,
    /// Members that have changed, in the order in which they did.
    dirty: VecDeque<Arc<str>>,
    /// No gathering before this.
    next: Moment,
    /// One entry for each member that time will change.
    timers: BTreeSet<(Moment, Arc<str>)>,
    /// How often those were told that have left a moment ago.
    leavers: HashMap<Arc<str>, Pace>,
    leaving: VecDeque<(Moment, Arc<str>)>,
    /// `None` while the members are listed.
    count: Option<Count>,
    /// Since when it has no members, while a number is told.
    empty_since: Option<Moment>,
    turns: Turns,
    /// Why its members are not listed any more, until that was taken.
    refused: Option<StateRefusal>,
}

impl Room {
    /// Without members. `channel` is where the entries go.
    pub fn new(channel: ChannelName, plan: Plan) -> Self {
        Self {
            channel,
            plan,
            members: HashMap::new(),
            listed: 0,
            dirty: VecDeque::new(),
            next: Moment::default(),
            timers: BTreeSet::new(),
            leavers: HashMap::new(),
            leaving: VecDeque::new(),
            count: plan.counts.then(Count::fixed),
            empty_since: None,
            turns: Turns::default(),
            refused: None,
        }
    }

    /// Somebody is about to read it: a number is there from the beginning.
    pub fn open(&mut self, around: &Around<'_>) {
        if self.count.is_some_and(|count| count.told.is_none()) {
            self.tell_count(around);
        }
        if self.members.is_empty() && self.count.is_some_and(|count| count.entered.is_none()) {
            self.empty_since = Some(around.now.moment);
        }
    }

    /// A session is subscribed. One that was cut off is back. Returns whether it is a new member.
    pub fn join(&mut self, client: &Arc<str>, who: Who, number: u64, around: &Around<'_>) -> bool {
        self.empty_since = None;
        if let Some(member) = self.members.get_mut(client) {
            if member.return_from_cut(around.now) && member.is_listed {
                self.touch(client);
            }
            self.enter(client, around);
            return false;
        }
        let pace = self.leavers.remove(client).unwrap_or_default();
        self.members.insert(Arc::clone(client), Member::new(number, who, pace, around.now));
        self.enter(client, around);
        true
    }

    /// The application has said who a member is for others; `None` hides it.
    pub fn know(&mut self, client: &Arc<str>, number: u64, subject: Option<Arc<str>>, around: &Around<'_>) {
        let is_it = |member: &&mut Member| member.number == number && member.who == Who::Asked;
        let Some(member) = self.members.get_mut(client).filter(is_it) else { return };
        member.who = subject.map_or(Who::Hidden, Who::Shown);
        if member.cut.is_none() {
            self.enter(client, around);
        }
    }

    /// A client says something of itself.
    pub fn change(&mut self, client: &Arc<str>, change: &PresenceChange, around: &Around<'_>) -> Presented {
        let Some(member) = self.members.get_mut(client) else { return Presented::NotHere };
        if member.who == Who::Hidden {
            return Presented::Hidden;
        }
        if member.change(change, around.now) {
            self.touch(client);
        }
        self.arm(client, around);
        Presented::Done
    }

    /// A member has lost its connection, and may come back.
    pub fn cut(&mut self, client: &Arc<str>, around: &Around<'_>) {
        if let Some(member) = self.members.get_mut(client) {
            member.lose(around.now);
            self.arm(client, around);
        }
    }

    /// A session is not subscribed any more.
    pub fn leave(&mut self, client: &Arc<str>, around: &Around<'_>) {
        self.exit(client, around);
        let Some(member) = self.members.remove(client) else { return };
        if let Some(timer) = member.timer {
            self.timers.remove(&(timer, Arc::clone(client)));
        }
        let now = around.now.moment;
        if member.pace.end() > now {
            self.leavers.insert(Arc::clone(client), member.pace);
            self.leaving.push_back((now + SECOND, Arc::clone(client)));
        }
        self.note_empty(around);
    }

    /// When there is something to do.
    pub fn due(&self) -> Option<Moment> {
        let gather = (!self.dirty.is_empty() || !self.turns.is_empty()).then_some(self.next);
        let timer = self.timers.first().map(|(moment, _)| *moment);
        let leaver = self.leaving.front().map(|(moment, _)| *moment);
        let count = self.count.as_ref();
        let tell = count.and_then(|count| count.tell_at(self.listed)).filter(|_| !self.is_unused());
        let list = count.and_then(Count::list_at);
        let empty = self.empty_since.map(|since| since + LINGER);
        [gather, timer, leaver, tell, list, empty].into_iter().flatten().min()
    }

    /// Does what is due, at most `budget` members of it. Returns who came and who left.
    pub fn advance(&mut self, budget: &mut usize, around: &Around<'_>) -> Vec<Turn> {
        let now = around.now.moment;
        while self.leaving.front().is_some_and(|(end, _)| *end <= now) {
            let (_, client) = self.leaving.pop_front().expect("there is one");
            // It may have come and left again since.
            if self.leavers.get(&client).is_some_and(|pace| pace.end() <= now) {
                self.leavers.remove(&client);
            }
        }
        while *budget > 0 && self.timers.first().is_some_and(|(moment, _)| *moment <= now) {
            *budget -= 1;
            let (_, client) = self.timers.pop_first().expect("there is one");
            self.pass(&client, around);
        }
        if self.next > now || (self.dirty.is_empty() && self.turns.is_empty()) {
            self.look_at_count(around);
            return Vec::new();
        }
        while *budget > 0
            && let Some(client) = self.dirty.pop_front()
        {
            *budget -= 1;
            self.tell(&client, around);
        }
        self.look_at_count(around);
        if !self.dirty.is_empty() {
            return Vec::new(); // the gathering goes on
        }
        let readers = around.broker.readers(&self.channel).min(SECOND.as_millis() as u64);
        self.next = now + around.bounds.interval.max(Duration::from_millis(readers));
        self.turns.take()
    }

    /// Why there was no room for a list of its members, once.
    pub fn take_refused(&mut self) -> Option<StateRefusal> {
        self.refused.take()
    }

    /// Whether nobody needs it any more.
    pub fn is_over(&self) -> bool {
        let is_told = self.count.is_some_and(|count| count.told.is_some());
        self.members.is_empty() && self.leavers.is_empty() && self.turns.is_empty() && !is_told
    }

    /// The members that others know to be here.
    pub fn present(&self) -> Vec<Present> {
        self.members.iter().filter_map(|(client, member)| member.present(client)).collect()
    }

    /// Others know from now on that a member is here.
    fn enter(&mut self, client: &Arc<str>, around: &Around<'_>) {
        let Some(member) = self.members.get_mut(client).filter(|member| !member.is_listed) else { return };
        let Some(subject) = member.subject().cloned() else { return };
        member.come(around.now);
        self.listed += 1;
        self.turns.note_if(self.plan.is_told, client, &subject, true);
        self.touch(client);
        self.note_size(around);
    }

    /// Others know from now on that a member is not here.
    fn exit(&mut self, client: &Arc<str>, around: &Around<'_>) {
        let Some(member) = self.members.get_mut(client).filter(|member| member.is_listed) else { return };
        let Some(subject) = member.subject().cloned() else { return };
        let had_entry = member.told.take().is_some();
        (member.is_listed, member.is_held) = (false, false);
        self.listed -= 1;
        self.turns.note_if(self.plan.is_told, client, &subject, false);
        if had_entry {
            // It never waits, and there is always room for it.
            let removal = Content::removal(client).named(Some(EventName::CLIENT_PRESENCE));
            let _ = around.broker.append(self.channel.as_name(), removal, around.now.moment);
        }
        self.note_size(around);
    }

    /// A member has changed.
    fn touch(&mut self, client: &Arc<str>) {
        let Some(member) = self.members.get_mut(client) else { return };
        if self.count.is_none() && member.is_listed && !member.is_dirty && !member.is_held {
            member.is_dirty = true;
            self.dirty.push_back(Arc::clone(client));
        }
    }

    /// Makes sure that the room looks at a member in time.
    fn arm(&mut self, client: &Arc<str>, around: &Around<'_>) {
        let Some(member) = self.members.get_mut(client) else { return };
        let Some(due) = member.due(around.bounds.grace) else { return };
        if member.timer.is_none_or(|timer| due < timer) {
            if let Some(timer) = member.timer.replace(due) {
                self.timers.remove(&(timer, Arc::clone(client)));
            }
            self.timers.insert((due, Arc::clone(client)));
        }
    }

    fn pass(&mut self, client: &Arc<str>, around: &Around<'_>) {
        let Some(member) = self.members.get_mut(client) else { return };
        member.timer = None;
        match member.pass(around.now, around.bounds.grace) {
            Passed::Nothing => {}
            Passed::Changed => self.touch(client),
            Passed::Gone => self.exit(client, around),
        }
        self.arm(client, around);
    }

    /// Brings the entry of a member up to date.
    fn tell(&mut self, client: &Arc<str>, around: &Around<'_>) {
        let now = around.now.moment;
        let Some(member) = self.members.get_mut(client) else { return };
        if !std::mem::take(&mut member.is_dirty) || !member.is_listed || member.told == Some(member.print()) {
            return;
        }
        if member.pace.until() > now {
            member.is_held = true;
            return self.arm(client, around);
        }
        let data = data_of(client, member);
        let outcome = around.broker.append(self.channel.as_name(), entry(client, &data), now).outcome();
        if let Some(Err(PublishError::Refused(refusal))) = outcome {
            self.refused = Some(refusal);
            return self.begin_to_count(around);
        }
        member.pace.note(now);
        member.told = Some(member.print());
    }

    fn note_size(&mut self, around: &Around<'_>) {
        if let Some(count) = &mut self.count {
            count.look(self.listed, around.now.moment);
        } else if self.listed > around.bounds.limit {
            self.begin_to_count(around);
        }
    }

    fn note_empty(&mut self, around: &Around<'_>) {
        if self.plan.counts && self.members.is_empty() {
            self.empty_since.get_or_insert(around.now.moment);
        }
    }

    /// Readers get a number in place of a list, in one step: they begin anew.
    fn begin_to_count(&mut self, around: &Around<'_>) {
        let now = around.now.moment;
        self.dirty.clear();
        for member in self.members.values_mut() {
            (member.told, member.is_dirty, member.is_held) = (None, false, false);
        }
        let mut count = Count::entered(self.listed, around.bounds.limit);
        let data = count_data(self.listed);
        around.broker.reset_state(&self.channel, entry(COUNT_KEY, &data), now);
        count.note(self.listed, now);
        count.look(self.listed, now);
        self.count = Some(count);
    }

    fn look_at_count(&mut self, around: &Around<'_>) {
        let now = around.now.moment;
        let Some(count) = self.count else { return };
        if count.list_at().is_some_and(|at| at <= now) {
            return self.list_again(around);
        }
        if self.empty_since.is_some_and(|since| since + LINGER <= now) {
            self.end_unread(around);
        }
        if count.tell_at(self.listed).is_some_and(|at| at <= now) && !self.is_unused() {
            self.tell_count(around);
        }
    }

    fn tell_count(&mut self, around: &Around<'_>) {
        let (now, data) = (around.now.moment, count_data(self.listed));
        let outcome = around.broker.append(self.channel.as_name(), entry(COUNT_KEY, &data), now).outcome();
        let Some(count) = &mut self.count else { return };
        match outcome {
            Some(Err(_)) => count.put_off(now),
            _ => count.note(self.listed, now),
        }
    }

    /// Readers get a list in place of the number, in one step, if there is room for it.
    fn list_again(&mut self, around: &Around<'_>) {
        let now = around.now.moment;
        let listed = || self.members.iter().filter(|(_, member)| member.is_listed);
        let data: Vec<_> = listed().map(|(client, member)| (client, data_of(client, member))).collect();
        let entries = data.iter().map(|(client, data)| entry(client, data));
        let contents: Vec<_> = [Content::removal(COUNT_KEY)].into_iter().chain(entries).collect();
        if around.broker.append_all(&self.channel, &contents, now).is_err() {
            self.count.iter_mut().for_each(|count| count.stay(now));
            return;
        }
        self.count = None;
        for member in self.members.values_mut().filter(|member| member.is_listed) {
            member.pace.note(now);
            member.told = Some(member.print());
        }
    }

    /// A number that nobody reads, and that is 0, is not kept.
    fn end_unread(&mut self, around: &Around<'_>) {
        if around.broker.readers(&self.channel) > 0 {
            self.empty_since = Some(around.now.moment);
            return;
        }
        self.empty_since = None;
        let _ = around.broker.append(self.channel.as_name(), Content::removal(COUNT_KEY), around.now.moment);
        self.count = Some(Count::fixed());
    }

    /// Whether it has no members, and nobody was told so far.
    fn is_unused(&self) -> bool {
        self.members.is_empty() && self.count.is_some_and(|count| count.told.is_none())
    }
}

fn data_of(client: &str, member: &Member) -> Vec<u8> {
    let mut data = Vec::with_capacity(ENTRY_ROOM);
    member.write(client, &mut data);
    data
}

fn entry<'a>(key: &'a str, data: &'a [u8]) -> Content<'a> {
    Content::new(data, Some(key)).named(Some(EventName::CLIENT_PRESENCE))
}

/// The longest interval by the number of readers, which is a millisecond for each. So long a member's pace is remembered.
const SECOND: Duration = Duration::from_secs(1);

/// How long a number without members is kept at least, for readers.
const LINGER: Duration = Duration::from_secs(60);

/// Bytes of an entry whose client says nothing of itself.
const ENTRY_ROOM: usize = 256;
