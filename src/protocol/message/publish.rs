//! What a client publishes, or does to an entry of a state, and what it is told when that is not as it has expected.

use std::borrow::Cow;

use super::fields::{MAX_OFFSET, ParseError, required, string, wrong};
use crate::change::{Expected, Op};
use crate::json::{push_number, push_string};
use crate::position::{Epoch, Position};
use crate::publication::{EventName, KEY_BYTES};

/// What a client publishes, or does to an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Where to.
    pub channel: Cow<'a, str>,
    /// What it does where the channel has a state.
    pub op: Op,
    /// JSON text. Empty where an entry is removed.
    pub data: &'a str,
    /// The key of the publication.
    pub key: Option<Cow<'a, str>>,
    /// The name of its event.
    pub event: Option<Cow<'a, str>>,
    /// What has to be there.
    pub expected: Expected,
    /// The application may resolve a conflict.
    pub resolve: bool,
}

/// The JSON texts of the fields that this takes.
#[derive(Clone, Copy)]
pub(super) struct PublishFields<'a> {
    pub channel: Option<&'a str>,
    pub data: Option<&'a str>,
    pub key: Option<&'a str>,
    pub event: Option<&'a str>,
    pub version: Option<&'a str>,
    pub epoch: Option<&'a str>,
    pub resolve: Option<&'a str>,
}

/// Reads the fields of one of these types.
pub(super) fn publish<'a>(fields: PublishFields<'a>, message_type: &str) -> Result<Publish<'a>, ParseError> {
    let op = match message_type {
        "publish" => Op::Publish,
        "state_set" => Op::Set,
        "state_patch" => Op::Patch,
        "state_delete" => Op::Delete,
        _ => return Err(wrong("type", "publish, state_set, state_patch or state_delete")),
    };
    let key = key(fields.key)?;
    if op != Op::Publish {
        required("key", key.as_ref())?;
    }
    let data = if op == Op::Delete { "" } else { required("data", fields.data)? };
    if op == Op::Patch && !data.starts_with('{') {
        return Err(wrong("data", "a JSON object: a merge patch (RFC 7396)"));
    }
    Ok(Publish {
        channel: required("channel", string("channel", fields.channel)?)?,
        op,
        data,
        key,
        event: event(fields.event)?,
        expected: expected(fields)?,
        resolve: match fields.resolve {
            None | Some("true") => true,
            Some("false") => false,
            Some(_) => return Err(wrong("resolve", "true or false")),
        },
    })
}

fn expected(fields: PublishFields<'_>) -> Result<Expected, ParseError> {
    let Some(version) = fields.version else { return Ok(Expected::Any) };
    let offset = version.parse().ok().filter(|offset| *offset <= MAX_OFFSET);
    let offset = offset.ok_or_else(|| wrong("ifVersion", "an integer from 0 to 9007199254740991"))?;
    if offset == 0 {
        return Ok(Expected::Absent);
    }
    let epoch = required("epoch", string("epoch", fields.epoch)?)?;
    // No log ever had an epoch of another form, and none has offsets so large: the client is told what is there.
    let never = Position { epoch: Epoch::new(0), offset: u64::MAX };
    Ok(Expected::At(epoch.parse().map_or(never, |epoch| Position { epoch, offset })))
}

fn key(json: Option<&str>) -> Result<Option<Cow<'_, str>>, ParseError> {
    let key = string("key", json)?;
    if key.as_ref().is_some_and(|key| key.len() > KEY_BYTES) {
        return Err(wrong("key", "at most 255 bytes long"));
    }
    Ok(key)
}

fn event(json: Option<&str>) -> Result<Option<Cow<'_, str>>, ParseError> {
    let event = string("event", json)?;
    if event.as_ref().is_some_and(|event| EventName::new(event).is_none()) {
        return Err(wrong(
            "event",
            "a name that no event of the server has, of at most 64 letters, digits and _-.:",
        ));
    }
    Ok(event)
}

/// The `details` of a `state_conflict`: one JSON text. Who does not read the channel is not told the `data`, and a channel that has nothing
/// has no `epoch`.
pub fn entry_details(
    key: &str,
    epoch: Option<Epoch>,
    version: Option<Position>,
    data: Option<&[u8]>,
) -> String {
    let mut out = b"{".to_vec();
    if let Some(epoch) = epoch {
        out.extend_from_slice(format!("\"epoch\":\"{epoch}\",").as_bytes());
    }
    out.extend_from_slice(b"\"key\":");
    push_string(key, &mut out);
    out.extend_from_slice(b",\"version\":");
    push_number(version.map_or(0, |version| version.offset), &mut out);
    match data {
        _ if version.is_none() => out.extend_from_slice(b",\"removed\":true"),
        Some(data) => {
            out.extend_from_slice(b",\"data\":");
            out.extend_from_slice(data);
        }
        None => {}
    }
    out.push(b'}');
    String::from_utf8(out).unwrap_or_default()
}
