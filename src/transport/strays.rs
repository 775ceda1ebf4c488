//! Publications that nobody can ask for.

use std::sync::Arc;

use crate::channel::ChannelName;
use crate::moment::Moment;
use crate::printable::Printable;
use crate::transport::events::{Event, Inbox, Level};
use crate::transport::repeated::RepeatedKinds;

/// What to do about a log that a publication has made and whose name no pattern fits: it is logged, once in ten seconds.
pub(crate) fn warn(inbox: Arc<dyn Inbox>) -> impl Fn(&ChannelName, Moment) + Send + Sync {
    let strays = RepeatedKinds::<1>::default();
    move |channel, now| {
        if let Some(count) = strays.note(0, now) {
            let text = format!(
                "published to channels that no pattern fits: {count}, the last one {}. Clients can't subscribe to them: declare them with app.channel()",
                Printable(channel.as_str())
            );
            inbox.push(Event::Log { level: Level::Warning, text, about: None });
        }
    }
}
