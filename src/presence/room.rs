//! The members of one channel.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::around::{Around, Plan};
use super::count::{COUNT_KEY, Count, count_data};
use super::gathered::{Turn, Turns};
use super::member::{Member, MemberId, Passed, Present, Presented, Who};
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
    /// In boxes, because a map of so many has room for twice as many.
    members: HashMap<MemberId, Box<Member>>,
    /// Members that others know to be here.
    listed: usize,
    /// Members that have changed, in the order in which they did.
    dirty: VecDeque<MemberId>,
    /// No gathering before this.
    next: Moment,
    /// One entry for each member that time will change, and for each of the leavers.
    timers: BTreeSet<(Moment, MemberId)>,
    /// How often those were told that have left a moment ago.
    leavers: HashMap<MemberId, Moment>,
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
        if self.members.is_empty() && self.plan.counts {
            self.empty_since = Some(around.now.moment);
        }
    }

    /// A session is subscribed. One that was cut off is back. Returns whether it is a new member.
    pub fn join(&mut self, client: MemberId, who: Who, around: &Around<'_>) -> bool {
        self.empty_since = None;
        if let Some(member) = self.members.get_mut(&client) {
            if member.return_from_cut(around.now) && member.is_listed {
                self.touch(client);
            }
            self.enter(client, around);
            return false;
        }
        let mut member = Box::new(Member::new(who, around.now));
        if let Some(pace) = self.leavers.remove(&client) {
            (member.pace, member.timer) = (pace, Some(pace));
        }
        self.members.insert(client, member);
        self.enter(client, around);
        true
    }

    /// The application has said who a member is for others; `None` hides it.
    pub fn know(&mut self, client: MemberId, number: u64, subject: Option<&str>, around: &Around<'_>) {
        let is_it = |member: &&mut Box<Member>| member.who == Who::Asked(number);
        let Some(member) = self.members.get_mut(&client).filter(is_it) else { return };
        member.know(subject);
        if member.cut.is_none() {
            self.enter(client, around);
        }
    }

    /// A client says something of itself.
    pub fn change(&mut self, client: MemberId, change: &PresenceChange, around: &Around<'_>) -> Presented {
        let Some(member) = self.members.get_mut(&client) else { return Presented::NotHere };
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
    pub fn cut(&mut self, client: MemberId, around: &Around<'_>) {
        if let Some(member) = self.members.get_mut(&client) {
            member.lose(around.now);
            self.arm(client, around);
        }
    }

    /// A session is not subscribed any more.
    pub fn leave(&mut self, client: MemberId, around: &Around<'_>) {
        self.exit(client, around);
        let Some(member) = self.members.remove(&client) else { return };
        if let Some(timer) = member.timer {
            self.timers.remove(&(timer, client));
        }
        if member.pace > around.now.moment {
            self.leavers.insert(client, member.pace);
            self.timers.insert((member.pace, client));
        }
        self.note_empty(around);
    }

    /// When there is something to do.
    pub fn due(&self) -> Option<Moment> {
        let gather = (!self.dirty.is_empty() || !self.turns.is_empty()).then_some(self.next);
        let timer = self.timers.first().map(|(moment, _)| *moment);
        let count = self.count.as_ref();
        let tell = count.and_then(|count| count.tell_at(self.listed)).filter(|_| !self.is_unused());
        let list = count.and_then(Count::list_at);
        let empty = self.empty_since.map(|since| since + LINGER);
        [gather, timer, tell, list, empty].into_iter().flatten().min()
    }

    /// Does what is due, at most `budget` members of it. Returns who came and who left.
    pub fn advance(&mut self, budget: &mut usize, around: &Around<'_>) -> Vec<Turn> {
        let now = around.now.moment;
        while *budget > 0 && self.timers.first().is_some_and(|(moment, _)| *moment <= now) {
            *budget -= 1;
            let (_, client) = self.timers.pop_first().expect("there is one");
            self.pass(client, around);
        }
        if self.next > now || (self.dirty.is_empty() && self.turns.is_empty()) {
            self.look_at_count(around);
            return Vec::new();
        }
        while *budget > 0
            && let Some(client) = self.dirty.pop_front()
        {
            *budget -= 1;
            self.tell(client, around);
        }
        self.look_at_count(around);
        if !self.dirty.is_empty() {
            return Vec::new(); // the gathering goes on
        }
        self.dirty = VecDeque::new(); // all may have come at once, and the room is kept as long as they stay
        let readers = around.broker.readers(&self.channel).min(SECOND.as_millis() as u64);
        self.next = now + around.bounds.interval.max(Duration::from_millis(readers));
        self.take_turns()
    }

    /// Who came and who left since this was last asked.
    pub fn take_turns(&mut self) -> Vec<Turn> {
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
        self.members.iter().filter_map(|(client, member)| member.present(*client)).collect()
    }

    /// Others know from now on that a member is here.
    fn enter(&mut self, client: MemberId, around: &Around<'_>) {
        let Some(member) = self.members.get_mut(&client).filter(|member| !member.is_listed) else { return };
        let Some(subject) = member.subject() else { return };
        self.turns.note_if(self.plan.is_told, client, subject, true);
        member.come(around.now);
        self.listed += 1;
        self.touch(client);
        self.note_size(around);
    }

    /// Others know from now on that a member is not here.
    fn exit(&mut self, client: MemberId, around: &Around<'_>) {
        let Some(member) = self.members.get_mut(&client).filter(|member| member.is_listed) else { return };
        let Some(subject) = member.subject() else { return };
        self.turns.note_if(self.plan.is_told, client, subject, false);
        let had_entry = member.told.take().is_some();
        (member.is_listed, member.is_held) = (false, false);
        self.listed -= 1;
        if had_entry {
            // It never waits, and there is always room for it.
            let key = client.to_string();
            let removal = Content::removal(&key).named(Some(EventName::CLIENT_PRESENCE));
            let _ = around.broker.append(self.channel.as_name(), removal, around.now.moment);
        }
        self.note_size(around);
    }

    /// A member has changed.
    fn touch(&mut self, client: MemberId) {
        let Some(member) = self.members.get_mut(&client) else { return };
        if self.count.is_none() && member.is_listed && !member.is_dirty && !member.is_held {
            member.is_dirty = true;
            self.dirty.push_back(client);
        }
    }

    /// Makes sure that the room looks at a member in time.
    fn arm(&mut self, client: MemberId, around: &Around<'_>) {
        let Some(member) = self.members.get_mut(&client) else { return };
        let Some(due) = member.due(around.bounds.grace) else { return };
        if member.timer.is_none_or(|timer| due < timer) {
            if let Some(timer) = member.timer.replace(due) {
                self.timers.remove(&(timer, client));
            }
            self.timers.insert((due, client));
        }
    }

    fn pass(&mut self, client: MemberId, around: &Around<'_>) {
        let Some(member) = self.members.get_mut(&client) else {
            self.leavers.remove(&client);
            return;
        };
        member.timer = None;
        match member.pass(around.now, around.bounds.grace) {
            Passed::Nothing => {}
            Passed::Changed => self.touch(client),
            Passed::Gone => self.exit(client, around),
        }
        self.arm(client, around);
    }

    /// Brings the entry of a member up to date.
    fn tell(&mut self, client: MemberId, around: &Around<'_>) {
        let now = around.now.moment;
        let Some(member) = self.members.get_mut(&client) else { return };
        if !std::mem::take(&mut member.is_dirty) || !member.is_listed || member.told == Some(member.print()) {
            return;
        }
        if member.silent_until() > now {
            member.is_held = true;
            return self.arm(client, around);
        }
        let key = client.to_string();
        let data = data_of(&key, member);
        let outcome = around.broker.append(self.channel.as_name(), entry(&key, &data), now).outcome();
        if let Some(Err(PublishError::Refused(refusal))) = outcome {
            self.refused = Some(refusal);
            return self.begin_to_count(around);
        }
        member.note_told(now);
    }

    fn note_size(&mut self, around: &Around<'_>) {
        if let Some(count) = &mut self.count {
            count.look(self.listed, around.bounds.limit, around.now.moment);
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
        let (now, limit) = (around.now.moment, around.bounds.limit);
        self.dirty.clear();
        for member in self.members.values_mut() {
            (member.told, member.is_dirty, member.is_held) = (None, false, false);
        }
        let mut count = Count::instead_of_list(self.listed, limit);
        let data = count_data(self.listed);
        around.broker.reset_state(&self.channel, entry(COUNT_KEY, &data), now);
        count.note(self.listed, around.broker.readers(&self.channel), now);
        count.look(self.listed, limit, now);
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
        let readers = around.broker.readers(&self.channel);
        let Some(count) = &mut self.count else { return };
        match outcome {
            Some(Err(_)) => count.put_off(readers, now),
            _ => count.note(self.listed, readers, now),
        }
    }

    /// Readers get a list in place of the number, in one step, if there is room for it.
    fn list_again(&mut self, around: &Around<'_>) {
        let now = around.now.moment;
        let listed = self.members.iter().filter(|(_, member)| member.is_listed);
        let keys = listed.map(|(client, member)| (client.to_string(), member));
        let data: Vec<_> = keys.map(|(key, member)| (data_of(&key, member), key)).collect();
        let entries = data.iter().map(|(data, key)| entry(key, data));
        let contents: Vec<_> = [Content::removal(COUNT_KEY)].into_iter().chain(entries).collect();
        if around.broker.append_all(&self.channel, &contents, now).is_err() {
            self.count.iter_mut().for_each(|count| count.stay(now));
            return;
        }
        self.count = None;
        for member in self.members.values_mut().filter(|member| member.is_listed) {
            member.note_told(now);
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

/// The longest interval by the number of readers, which is a millisecond for each.
const SECOND: Duration = Duration::from_secs(1);

/// How long a number without members is kept at least, for readers.
const LINGER: Duration = Duration::from_secs(60);

/// Bytes of an entry whose client says nothing of itself.
const ENTRY_ROOM: usize = 256;
