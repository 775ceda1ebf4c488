//! One channel as one shard sees it: its log, its readers here, and the pieces that were prepared for them.

use std::sync::Arc;

use crate::broker::log::{Log, Watcher};
use crate::channel::ChannelName;
use crate::hub::ReaderKey;
use crate::hub::prepared::{Form, Pieces};

/// A channel that has readers in this shard.
#[derive(Debug)]
pub struct Feed {
    pub name: ChannelName,
    pub log: Arc<Log>,
    pub watcher: Arc<Watcher>,
    pub readers: Vec<ReaderKey>,
    /// Top of the log when it was last looked at.
    pub head: u64,
    /// The slice in which that was.
    pub slice: u64,
    /// Top of the log when the readers were last put into the queue.
    pub marked: u64,
    /// It stands in the hub's list of active feeds.
    pub active: bool,
    /// It stands in the hub's list of warm feeds.
    pub warm: bool,
    pub pieces: Pieces,
}

impl Feed {
    pub fn new(name: ChannelName, log: Arc<Log>, watcher: Arc<Watcher>) -> Self {
        let head = log.top();
        Self {
            name,
            log,
            watcher,
            readers: Vec::new(),
            head,
            slice: 0,
            marked: head,
            active: false,
            warm: false,
            pieces: Pieces::default(),
        }
    }

    /// Looks at the log, once per slice, so that neighbours see the same head and share a frame.
    pub fn look(&mut self, slice: u64) -> u64 {
        if self.slice != slice {
            self.slice = slice;
            let head = self.log.top();
            if head != self.head {
                self.head = head;
                self.pieces.keep_ends([self.head, self.marked]);
            }
        }
        self.head
    }

    /// Notes the top of the log at the beginning of a tick.
    pub fn mark(&mut self, top: u64) {
        self.marked = top;
        self.pieces.keep_ends([self.head, self.marked]);
    }

    /// The form of this channel for readers that negotiated one.
    pub fn form(&self, negotiated: Form) -> Form {
        if self.log.retention().compress { negotiated } else { Form::Plain }
    }

    /// Gives back what was prepared, when nothing new came for a tick.
    pub fn rest(&mut self) {
        self.active = false;
        self.pieces = Pieces::default();
    }
}
