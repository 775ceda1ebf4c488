//! The connection that publishes, or readers that do, and moments that come at a fixed rate.

use crate::client::Client;
use crate::{clock, connection, frame, socket};

/// A moment that comes at a fixed rate, whatever happened before: open loop.
pub struct Schedule {
    period: u64,
    pub next: u64,
}

impl Schedule {
    pub fn new(rate: f64) -> Self {
        Self { period: if rate > 0.0 { (1e9 / rate) as u64 } else { 0 }, next: u64::MAX }
    }

    pub fn start(&mut self, now: u64) {
        if self.period > 0 {
            self.next = now;
        }
    }

    /// True once for every moment that has passed.
    pub fn due(&mut self, now: u64) -> bool {
        let due = now >= self.next;
        if due {
            self.next += self.period;
        }
        due
    }
}

/// What the publisher has said, and what its socket has not taken yet.
pub struct Publisher {
    pub schedule: Schedule,
    pub published: u64,
    unsent: Vec<u8>,
}

impl Publisher {
    pub fn new(rate: f64) -> Self {
        Self { schedule: Schedule::new(rate), published: 0, unsent: Vec::new() }
    }
}

impl Client<'_> {
    pub(crate) fn publish_due(&mut self, now: u64) {
        let index = self.connections.len() - 1;
        while self.publisher.schedule.due(now) {
            let publisher = &mut self.publisher;
            let data = connection::padded_data(clock::now(), self.options.data_bytes);
            let (number, channels) = (publisher.published as usize, self.options.channels);
            let channel = if channels == 1 { String::new() } else { format!("-{}", number % channels) };
            let key = match self.options.keys {
                0 => String::new(),
                keys => format!(r#","key":"key-{:012}""#, number % keys),
            };
            publisher.published += 1;
            let message = format!(
                r#"{{"type":"{}","channel":"bench{channel}"{key},"data":{data},"id":{}}}"#,
                self.options.publish_type, publisher.published
            );
            if self.options.publishers == 0 {
                frame::write_masked(&mut publisher.unsent, frame::TEXT, message.as_bytes());
            } else {
                let mut frame = Vec::with_capacity(message.len() + 8);
                frame::write_masked(&mut frame, frame::TEXT, message.as_bytes());
                self.send(number % self.options.publishers, &frame);
            }
        }
        self.flush_publisher(index);
    }

    pub(crate) fn flush_publisher(&mut self, index: usize) {
        if self.publisher.unsent.is_empty() {
            return;
        }
        let Some(fd) = self.connections[index].fd() else { return };
        match socket::send(fd, &self.publisher.unsent) {
            Ok(sent) => drop(self.publisher.unsent.drain(..sent)),
            Err(error) if socket::would_block(&error) => {}
            Err(error) => self.close(index, &format!("publisher: {error}")),
        }
    }
}
