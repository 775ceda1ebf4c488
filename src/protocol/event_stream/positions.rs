//! The positions of a stream, and their text: the `id` of its events.
//!
//! The text says for each channel of the stream how far the client was told. So the last `id` that a client has is all that it has
//! to show to come back. Channels have hashes there: an `id` stays short, whatever the names, and the order of channels does not
//! matter.
//!
//! ```text
//! id      = [ secret "." ] 1*( channel "." ) check
//! secret  = 36 digits, which is more than a channel has
//! channel = 11 digits of the hash, and if a position is known: 11 digits of the epoch, 1 to 9 digits of the offset
//! check   = 6 digits, made of everything before
//! ```
//!
//! The digits are those of base64url, so nothing has to be escaped, in a header or in a URL. They are not a secret, and the check is
//! no signature: it finds an `id` that was cut short. Only a stream that was opened with a ticket has a secret, for its next opening.

use std::sync::Arc;

use sha1::{Digest as _, Sha1};
use smallvec::SmallVec;

use crate::position::{Epoch, Position};

/// What stands for the name of a channel. It is the same in every process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelHash(u64);

impl ChannelHash {
    /// The first 64 bits of SHA-1: two names of one stream have the same with a chance of 2⁻⁵⁵, and who finds such names
    /// confuses only streams that ask for both.
    pub fn of(name: &str) -> Self {
        let digest = Sha1::digest(name);
        Self(digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

/// How far a stream has told its client, in each of its channels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamPositions {
    channels: SmallVec<[(ChannelHash, Option<Position>); 1]>,
    secret: Option<Arc<str>>,
}

impl StreamPositions {
    /// Those of a stream that begins. `None`: no position is known.
    pub fn new(channels: impl IntoIterator<Item = (ChannelHash, Option<Position>)>) -> Self {
        Self { channels: channels.into_iter().collect(), secret: None }
    }

    /// Puts the secret of this opening before the positions.
    pub fn set_secret(&mut self, secret: &str) {
        self.secret = Some(secret.into());
    }

    /// The number of channels.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Whether there is no channel.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Where a channel is in the list.
    pub fn find(&self, channel: ChannelHash) -> Option<usize> {
        self.channels.iter().position(|(other, _)| *other == channel)
    }

    /// What is said of a channel, if anything is.
    pub fn get(&self, channel: ChannelHash) -> Option<Option<Position>> {
        self.find(channel).map(|index| self.channels[index].1)
    }

    /// The client is told that it is here now. Other channels than those of the stream are ignored.
    pub fn tell(&mut self, channel: ChannelHash, position: Position) {
        if let Some(index) = self.find(channel) {
            self.channels[index].1 = Some(position);
        }
    }

    /// Takes over those of another stream, into the room that this one has.
    pub fn copy(&mut self, other: &Self) {
        self.channels.clear();
        self.channels.extend_from_slice(&other.channels);
        self.secret.clone_from(&other.secret);
    }

    /// Appends the text.
    pub fn write(&self, out: &mut Vec<u8>) {
        if let Some(secret) = &self.secret {
            out.extend_from_slice(secret.as_bytes());
            out.push(b'.');
        }
        write(&self.channels, out);
    }

    /// Appends the text of a stream that has one channel.
    pub fn write_one(channel: ChannelHash, position: Position, out: &mut Vec<u8>) {
        write(&[(channel, Some(position))], out);
    }

    /// Takes the secret off an `id`, if it has one.
    pub fn split_secret(id: &str) -> (Option<&str>, &str) {
        let parts = id.split_once('.').filter(|(secret, _)| secret.len() == SECRET);
        parts.map_or((None, id), |(secret, positions)| (Some(secret), positions))
    }

    /// Reads the text without a secret. `None`: it is none that was written here, or not all of one.
    pub fn parse(text: &str) -> Option<Self> {
        let (channels, check) = text.rsplit_once('.')?;
        let parse = |part: &str| {
            let (hash, rest) = part.split_at_checked(LONG)?;
            let hash = ChannelHash(number(hash)?);
            if rest.is_empty() {
                return Some((hash, None));
            }
            let (epoch, offset) = rest.split_at_checked(LONG)?;
            let is_shortest = !offset.is_empty() && (offset.len() == 1 || !offset.starts_with('A'));
            let offset = number(offset).filter(|offset| is_shortest && *offset <= LARGEST_OFFSET)?;
            Some((hash, Some(Position { epoch: Epoch::new(number(epoch)?), offset })))
        };
        let channels = channels.split('.').map(parse).collect::<Option<SmallVec<_>>>()?;
        let is_whole = check.len() == CHECK && number(check)? == check_of(&channels);
        is_whole.then_some(Self { channels, secret: None })
    }
}

fn write(channels: &[(ChannelHash, Option<Position>)], out: &mut Vec<u8>) {
    for (hash, position) in channels {
        push(hash.0, LONG, out);
        if let Some(Position { epoch, offset }) = position {
            push(epoch.bits(), LONG, out);
            let bits = u64::BITS - offset.leading_zeros();
            push(*offset, bits.div_ceil(6).max(1) as usize, out);
        }
        out.push(b'.');
    }
    push(check_of(channels), CHECK, out);
}

/// It is made of the numbers: three multiplications for each channel, where the text has 32 bytes.
fn check_of(channels: &[(ChannelHash, Option<Position>)]) -> u64 {
    let mix = |check: u64, number: u64| (check ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let mixed = channels.iter().fold(1, |check, (hash, position)| match position {
        Some(Position { epoch, offset }) => mix(mix(mix(check, hash.0), epoch.bits()), *offset + 1),
        None => mix(mix(check, hash.0), 0),
    });
    mix(mixed, 0) & ((1 << (6 * CHECK)) - 1)
}

fn push(number: u64, digits: usize, out: &mut Vec<u8>) {
    out.extend((0..digits).rev().map(|place| DIGITS[(number >> (6 * place) & 63) as usize]));
}

/// Reads a number. `None` when it has more than 64 bits.
fn number(text: &str) -> Option<u64> {
    text.bytes().try_fold(0_u64, |number, digit| {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        (number >> 58 == 0).then_some(number << 6 | u64::from(value))
    })
}

/// RFC 4648 §5.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Digits of a secret.
const SECRET: usize = 36;

/// Digits of 64 bits.
const LONG: usize = 11;

/// Digits of the check: one wrong `id` in 2³⁶ is taken for a right one.
const CHECK: usize = 6;

/// The largest that a client may name in a message, too.
const LARGEST_OFFSET: u64 = (1 << 53) - 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(positions: &StreamPositions) -> String {
        let mut out = Vec::new();
        positions.write(&mut out);
        String::from_utf8(out).expect("digits")
    }

    fn some_positions() -> impl Strategy<Value = StreamPositions> {
        let position = (any::<u64>(), prop_oneof![0..100_u64, 0..=LARGEST_OFFSET])
            .prop_map(|(epoch, offset)| Position { epoch: Epoch::new(epoch), offset });
        let channel = (any::<u64>().prop_map(ChannelHash), proptest::option::of(position));
        proptest::collection::vec(channel, 1..33).prop_map(StreamPositions::new)
    }

    proptest! {
        #[test]
        fn an_id_comes_back_as_it_was_and_no_part_of_it_is_one(positions in some_positions()) {
            let text = written(&positions);
            prop_assert!(text.len() <= positions.len() * 33 + CHECK);
            prop_assert_eq!(StreamPositions::parse(&text), Some(positions));
            for end in 0..text.len() {
                prop_assert_eq!(StreamPositions::parse(&text[..end]), None);
                prop_assert_eq!(StreamPositions::parse(&text[end + 1..]), None);
            }
        }

        #[test]
        fn whatever_is_read_is_written_like_that(text in "[-A-Za-z0-9_.\u{0}-\u{ff}]{0,80}") {
            if let Some(positions) = StreamPositions::parse(&text) {
                prop_assert_eq!(written(&positions), text);
            }
        }
    }

    #[test]
    fn the_text_is_the_one_of_the_documentation() {
        let epoch = Epoch::new(0x0123_4567_89ab_cdef);
        let mut positions =
            StreamPositions::new([(ChannelHash::of("news"), None), (ChannelHash::of("b"), None)]);
        positions.tell(ChannelHash::of("news"), Position { epoch, offset: 64 });
        positions.tell(ChannelHash::of("c"), Position { epoch, offset: 1 });
        let text = written(&positions);
        assert_eq!(text.split('.').map(str::len).collect::<Vec<_>>(), [24, 11, 6]);
        assert!(text.contains("AEjRWeJq83vBA."), "{text}");
        assert_eq!(StreamPositions::parse(&text).map(|it| it.get(ChannelHash::of("c"))), Some(None));
        let mut one = Vec::new();
        StreamPositions::write_one(ChannelHash::of("news"), Position { epoch, offset: 64 }, &mut one);
        assert_eq!(one.len(), 31);
    }

    #[test]
    fn a_secret_comes_first_and_is_taken_off() {
        let mut positions = StreamPositions::new([(ChannelHash::of("news"), None)]);
        let plain = written(&positions);
        let secret = "S".repeat(36);
        positions.set_secret(&secret);
        let text = written(&positions);
        assert_eq!(StreamPositions::split_secret(&text), (Some(&*secret), &*plain));
        assert_eq!(StreamPositions::split_secret(&text[..37]), (Some(&*secret), ""));
        for other in [&*plain, &text[..36], &text[1..]] {
            assert_eq!(StreamPositions::split_secret(other), (None, other));
        }
        assert_eq!(StreamPositions::parse(&text), None);
        let mut copy = StreamPositions::default();
        copy.copy(&positions);
        assert_eq!(written(&copy), text);
    }

    #[test]
    fn another_text_for_the_same_numbers_is_no_id() {
        let positions =
            StreamPositions::new([(ChannelHash(7), Some(Position { epoch: Epoch::new(9), offset: 5 }))]);
        let text = written(&positions);
        assert_eq!(StreamPositions::parse(&text.replace("F.", "AF.")), None);
        assert_eq!(StreamPositions::parse(&text.replacen('A', "Q", 1)), None, "65 bits");
        for other in ["", ".", "..", "x", "AAAAAAAAAAA", "AAAAAAAAAAA.", "é.AAAAAA", &format!("{text} ")] {
            assert_eq!(StreamPositions::parse(other), None, "{other}");
        }
    }
}
