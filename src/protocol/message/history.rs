//! What a channel still has, as the answer to a program that asks for it.

use crate::json::{push_number, push_string};
use crate::position::Position;
use crate::publication::Publication;

/// A part of a log.
#[derive(Clone, Copy, Debug)]
pub struct Excerpt<'a> {
    /// The name of the channel.
    pub channel: &'a str,
    /// The position that was asked for.
    pub after: Option<Position>,
    /// Not everything after that position is there.
    pub gap: bool,
    /// Where the log stands. `None`: there is none.
    pub top: Option<Position>,
    /// The publications, the oldest first.
    pub publications: &'a [Publication],
}

impl Excerpt<'_> {
    /// Appends it as JSON text. The position in it is that of its last publication, where the next excerpt goes on.
    pub fn write(&self, out: &mut Vec<u8>) {
        let Self { channel, after, gap, top, publications } = *self;
        let (first, last) = (publications.first(), publications.last());
        let after = after.filter(|_| !gap).map(|position| position.offset);
        let mut reached = after.or(first.map(|publication| publication.offset - 1));
        let end = last.map(|publication| publication.offset).or(reached);
        out.extend_from_slice(b"{\"type\":\"history\",\"channel\":");
        push_string(channel, out);
        out.extend_from_slice(b",\"epoch\":");
        match top {
            Some(top) => push_string(&top.epoch.to_string(), out),
            None => out.extend_from_slice(b"null"),
        }
        let top = top.map_or(0, |top| top.offset);
        out.extend_from_slice(b",\"offset\":");
        push_number(end.unwrap_or(top), out);
        out.extend_from_slice(b",\"top\":");
        push_number(top, out);
        out.extend_from_slice(if gap { b",\"gap\":true" } else { b",\"gap\":false" });
        out.extend_from_slice(b",\"updates\":[");
        for (index, publication) in publications.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            publication.write(reached.unwrap_or(publication.offset - 1), None, out);
            reached = Some(publication.offset);
        }
        out.extend_from_slice(b"]}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moment::Moment;
    use crate::position::Epoch;
    use crate::publication::{Content, prefix};

    #[test]
    fn the_next_excerpt_goes_on_where_this_one_ends() {
        let position = |offset| Position { epoch: Epoch::new(7), offset };
        let publication =
            |offset| Publication::new(&prefix("a"), offset, &Content::new(b"1", None), Moment::default());
        let all = [publication(4), publication(6)];
        let written = |after, gap, top, publications: &[Publication]| {
            let mut out = Vec::new();
            Excerpt { channel: "a", after, gap, top, publications }.write(&mut out);
            let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
            json
        };
        let json = written(Some(position(3)), false, Some(position(9)), &all);
        assert_eq!((&json["offset"], &json["top"], &json["gap"]), (&6.into(), &9.into(), &false.into()));
        assert_eq!(json["epoch"], Epoch::new(7).to_string());
        assert_eq!((json["updates"][0].get("from"), &json["updates"][1]["from"]), (None, &4.into()));
        let json = written(Some(position(1)), true, Some(position(9)), &all);
        assert_eq!((json["updates"][0].get("from"), &json["gap"]), (None, &true.into()));
        assert_eq!(written(Some(position(9)), false, Some(position(9)), &[])["offset"], 9);
        assert_eq!(written(None, false, Some(position(9)), &[])["offset"], 9);
        let none = written(None, false, None, &[]);
        assert!(none["epoch"].is_null() && none["offset"] == 0 && none["updates"] == serde_json::json!([]));
    }
}
