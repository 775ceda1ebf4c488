//! What somebody gets who asks for a state.

use std::collections::HashMap;
use std::sync::Arc;

use crate::broker::history::{Most, StatePart};
use crate::broker::interface::Broker;
use crate::channel::ChannelName;
use crate::position::Position;
use crate::publication::Publication;

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
    let mut found: HashMap<Arc<str>, Publication> = HashMap::new();
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
            let Some(key) = entry.key.clone() else { continue };
            if entry.is_removal() {
                found.remove(&key);
            } else {
                found.insert(key, entry);
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

/// Bytes that are copied in one step, while the log is locked.
const PART_BYTES: usize = 256 << 10;

/// How often a state is read anew before it is read in one step.
const PATIENT_PARTS: usize = 4;
