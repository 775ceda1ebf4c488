//! What somebody gets who asks for a state, and what becomes of a change.

use std::collections::HashMap;

use crate::broker::history::{Found, Most, StatePart};
use crate::broker::interface::Broker;
use crate::broker::receipt::{PublishError, Receipt};
use crate::change::{ENTRY_BYTES, Expected, Op, StateRefusal};
use crate::channel::{ChannelName, Name};
use crate::merge_patch::{Patch, PatchError};
use crate::moment::Moment;
use crate::position::Position;
use crate::publication::{Content, Publication};

/// All entries of a state as they are at one moment, in the order in which they were changed, and the position of that moment.
/// `None` when there is no log.
///
/// It is read in parts, so that nobody has to wait for long, as a reader reads it: what changes meanwhile comes again in a later part.
pub fn read_state(broker: &dyn Broker, channel: &ChannelName) -> Option<(Position, Vec<Publication>)> {
    let mut parts = Most { count: usize::MAX, bytes: PART_BYTES };
    for _ in 0..PATIENT_PARTS {
        if let Some(state) = read_parts(broker, channel, parts)? {
            return Some(state);
        }
        // So much is changed that removals are forgotten while it is read: in fewer parts, in the end in one.
        parts.bytes = parts.bytes.saturating_mul(8);
    }
    read_parts(broker, channel, Most { count: usize::MAX, bytes: usize::MAX })?
}

/// `Some(None)`: a removal was forgotten that was needed, or the log is another one now.
#[expect(clippy::option_option, reason = "two different answers")]
fn read_parts(
    broker: &dyn Broker,
    channel: &ChannelName,
    most: Most,
) -> Option<Option<(Position, Vec<Publication>)>> {
    let mut found: HashMap<Box<str>, Publication> = HashMap::new();
    let mut reached = 0;
    let mut first: Option<Position> = None;
    loop {
        let StatePart { top, forgotten, entries } = broker.state_after(channel, reached, most)?;
        let begin = *first.get_or_insert(top);
        let is_needed = reached > 0 && forgotten > reached.max(begin.offset);
        if is_needed || begin.epoch != top.epoch {
            return Some(None);
        }
        let Some(last) = entries.last().map(|entry| entry.offset) else { break };
        reached = last;
        for entry in entries {
            let Some(key) = entry.key() else { continue };
            if entry.is_removal() {
                found.remove(key);
            } else {
                found.insert(key.into(), entry);
            }
        }
        if reached >= top.offset {
            break;
        }
    }
    let mut entries: Vec<_> = found.into_values().collect();
    entries.sort_unstable_by_key(|entry| entry.offset);
    Some(first.map(|position| (position.at(reached), entries)))
}

/// Makes a change of a state. Returns also what that cost beside the append, in bytes that could have been read.
///
/// A patch is merged while nothing is locked, and what it makes is appended if the entry is still the one that it was made of. If not,
/// it is merged again, unless the change has named a version: so patches of different fields by several clients all count. A patch of
/// nothing would be a part of an entry, so it is refused where its client did not expect that.
pub fn change_state(
    broker: &dyn Broker,
    channel: Name<'_>,
    content: Content<'_>,
    now: Moment,
) -> (Receipt, usize) {
    if content.op != Op::Patch {
        return (broker.append(channel, content, now), 0);
    }
    let Some(key) = content.key else { return (Receipt::refused(StateRefusal::NoKey), 0) };
    if content.data.len() > ENTRY_BYTES {
        // To read it would take many times its length.
        return (Receipt::refused(StateRefusal::Large), 0);
    }
    let text = str::from_utf8(content.data).map_err(|_| PatchError::NoJson);
    let patch = match text.and_then(Patch::read) {
        Ok(patch) => patch,
        Err(error) => return (Receipt::refused(StateRefusal::Patch(error)), content.data.len()),
    };
    let mut cost = content.data.len();
    for _ in 0..PATIENT_PATCHES {
        let found = broker.entry(channel, key, None);
        let version = found.as_ref().and_then(Found::version);
        let is_blind = content.expected == Expected::Any && version.is_none();
        if is_blind || !content.expected.holds(version) {
            return (Receipt::refused(StateRefusal::Conflict), cost);
        }
        let value = found.as_ref().and_then(Found::data).map(|data| str::from_utf8(data).unwrap_or_default());
        let mut data = Vec::new();
        patch.apply(value, &mut data);
        cost += data.len() + value.map_or(0, str::len);
        let expected = version.map_or(Expected::Absent, Expected::At);
        let receipt = broker.append(channel, Content { data: &data, op: Op::Set, expected, ..content }, now);
        let is_outrun = receipt.outcome() == Some(Err(PublishError::Refused(StateRefusal::Conflict)));
        if content.expected != Expected::Any || !is_outrun {
            return (receipt, cost);
        }
    }
    let reason = "the entry was changed by others each time before the patch was there";
    (Receipt::failed(PublishError::NotPublished(reason.to_owned())), cost)
}

/// How often a patch is merged anew, because the entry was changed in the microseconds that it took.
const PATIENT_PATCHES: usize = 16;

/// Bytes that are copied in one step, while the log is locked.
const PART_BYTES: usize = 256 << 10;

/// How often a state is read anew before it is read in one step.
const PATIENT_PARTS: usize = 4;
