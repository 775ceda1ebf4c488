//! Changes of a whole state in one step of its log.

use crate::broker::entries::Entries;
use crate::broker::log::Log;
use crate::broker::outcomes::Change;
use crate::change::StateRefusal;
use crate::moment::Moment;
use crate::publication::{Content, Publication};

impl Log {
    /// Removes all keys of a state, and notifies the watchers. Every reader begins anew.
    pub fn clear(&self, now: Moment) -> Change {
        let clear = |entries: &mut Entries| {
            let live = entries.kept.newest().find(|entry| !entry.is_removal());
            let Some(key) = live.and_then(|entry| entry.key().map(str::to_owned)) else { return };
            self.begin_state(entries, &Content::removal(&key), now);
        };
        self.change(clear).1
    }

    /// Puts one entry in the place of all, and notifies the watchers. Every reader begins anew, and is told that it is a count now.
    pub fn reset(&self, only: &Content<'_>, now: Moment) -> Change {
        let reset = |entries: &mut Entries| {
            self.begin_state(entries, only, now);
            entries.counted = entries.forgotten;
        };
        self.change(reset).1
    }

    /// Appends several changes of a state, so that no reader ends between two of them.
    ///
    /// The outcome is an error, and nothing is changed, when the state has no room for all of them.
    pub fn append_all(&self, contents: &[Content<'_>], now: Moment) -> (Result<(), StateRefusal>, Change) {
        self.change(|entries| {
            entries.admit_all(contents, self.retention())?;
            for content in contents {
                if entries.admit(content, self.retention())? {
                    let place = self.top().with_offset(self.top().offset() + 1);
                    self.push(entries, place, content, now);
                }
            }
            Ok(())
        })
    }

    fn begin_state(&self, entries: &mut Entries, only: &Content<'_>, now: Moment) {
        let place = self.top().with_offset(self.top().offset() + 1);
        let first = Publication::new(&entries.update_prefix, place.offset(), only, now);
        entries.clear_state(first);
        self.top.advance(place, &entries.watchers);
    }
}
