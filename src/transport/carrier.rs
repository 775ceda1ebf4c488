//! How a connection carries a session.

use crate::channel::ChannelName;
use crate::close::CloseReason;
use crate::error_code::ErrorCode;
use crate::moment::Moment;
use crate::position::{Position, Subscribed};
use crate::protocol::message::Timestamp;
use crate::session::{Carrier, Question};
use crate::transport::events::Event;
use crate::transport::peer::Peer;

impl Carrier for Peer<'_> {
    fn now(&self) -> Moment {
        self.connections.now
    }

    fn timestamp(&self) -> Timestamp {
        self.connections.timestamp()
    }

    fn is_live(&self) -> bool {
        self.connections.is_live(self.key)
    }

    fn reply(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut text = std::mem::take(&mut self.connections.buffers.text);
        text.clear();
        write(&mut text);
        self.reply_text(&text);
        self.connections.buffers.text = text;
    }

    fn catch_up(&mut self) {
        Peer::catch_up(self);
    }

    fn subscribe(&mut self, channel: &ChannelName, from: Option<Position>) -> Subscribed {
        let most = self.connections.shared.config.max_subscriptions;
        self.connections.hub.subscribe(self.key, channel, from, most)
    }

    fn subscribe_private(&mut self, channel: &ChannelName) -> Position {
        self.connections.hub.subscribe_from_start(self.key, channel)
    }

    fn unsubscribe(&mut self, channel: &str) -> bool {
        self.connections.hub.unsubscribe(self.key, channel)
    }

    fn publish(
        &mut self,
        channel: &ChannelName,
        data: &[u8],
        key: Option<&str>,
        _number: u64,
    ) -> Option<Result<u64, ErrorCode>> {
        let position = self.connections.shared.broker.append(channel, data, key, self.connections.now);
        Some(Ok(position.offset))
    }

    fn ask(&mut self, question: Question) {
        let Some(connection) = self.live() else { return };
        connection.known = true;
        let client = connection.id;
        self.connections.shared.inbox.push(Event::Question { client, question });
    }

    fn close(&mut self, reason: CloseReason) {
        Peer::close(self, reason);
    }
}
