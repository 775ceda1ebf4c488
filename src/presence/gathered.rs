//! Who came and who left, for the application.

use std::collections::HashMap;

use super::member::MemberId;
use crate::channel::ChannelName;

/// What happened in a channel within one interval.
#[derive(Debug, PartialEq, Eq)]
pub struct Gathered {
    /// The channel whose members these are.
    pub channel: ChannelName,
    /// One for each member that came or left, in the order in which that began.
    pub turns: Vec<Turn>,
}

/// A member that came or left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Its public id.
    pub client: MemberId,
    /// Who it is for others. Empty for an anonymous one.
    pub subject: Box<str>,
    /// It came. It may have left before that, or after it.
    pub came: bool,
    /// It left. It may have come before that, or after it.
    pub left: bool,
    /// It is there now.
    pub is_here: bool,
}

/// What is gathered of one channel.
#[derive(Debug, Default)]
pub(super) struct Turns {
    turns: Vec<Turn>,
    places: HashMap<MemberId, usize>,
}

impl Turns {
    /// A member has come, or left. However often it does, it is one turn.
    pub fn note_if(&mut self, is_told: bool, client: MemberId, subject: &str, is_here: bool) {
        if !is_told {
            return;
        }
        let place = *self.places.entry(client).or_insert(self.turns.len());
        if place == self.turns.len() {
            self.turns.push(Turn { client, subject: subject.into(), came: false, left: false, is_here });
        }
        let turn = &mut self.turns[place];
        turn.came |= is_here;
        turn.left |= !is_here;
        turn.is_here = is_here;
    }

    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    pub fn take(&mut self) -> Vec<Turn> {
        std::mem::take(self).turns
    }
}
