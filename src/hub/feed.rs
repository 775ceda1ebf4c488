//! One channel as one shard sees it: its log, its readers here, and the frames that were made for them.

use std::sync::Arc;

use crate::broker::log::{Log, Watcher};
use crate::channel::ChannelName;
use crate::hub::frame_cache::FrameCache;
use crate::hub::keys::ReaderKey;
use crate::protocol::wire::Wire;

/// A channel that has readers in this shard.
#[derive(Debug)]
pub(super) struct Feed {
    pub name: ChannelName,
    pub log: Arc<Log>,
    pub watcher: Arc<Watcher>,
    pub readers: Vec<ReaderKey>,
    /// Top of the log when it was last read.
    pub top: u64,
    /// The slice in which that was.
    pub slice: u64,
    /// Top of the log when the readers were last put into the queue.
    pub marked: u64,
    /// It is in the hub's list of active feeds.
    pub active: bool,
    /// It is in the hub's list of warm feeds.
    pub warm: bool,
    pub frames: FrameCache,
}

impl Feed {
    pub fn new(name: ChannelName, log: Arc<Log>, watcher: Arc<Watcher>) -> Self {
        let top = log.top();
        Self {
            name,
            log,
            watcher,
            readers: Vec::new(),
            top,
            slice: 0,
            marked: top,
            active: false,
            warm: false,
            frames: FrameCache::default(),
        }
    }

    /// Top of the log, read once per slice: neighbours in a slice see the same top and share a frame.
    pub fn top_in(&mut self, slice: u64) -> u64 {
        if self.slice != slice {
            self.slice = slice;
            let top = self.log.top();
            if top != self.top {
                self.top = top;
                self.frames.keep_ends([self.top, self.marked]);
            }
        }
        self.top
    }

    /// Notes the top of the log at the beginning of a tick.
    pub fn mark(&mut self, top: u64) {
        self.marked = top;
        self.frames.keep_ends([self.top, self.marked]);
    }

    /// How this channel is sent to a reader with this wire: a channel may be declared without compression.
    pub fn wire(&self, reader: Wire) -> Wire {
        if self.log.retention().compress { reader } else { reader.plain() }
    }

    /// Nothing new came for a tick: the frames are dropped.
    pub fn rest(&mut self) {
        self.active = false;
        self.frames = FrameCache::default();
    }
}
