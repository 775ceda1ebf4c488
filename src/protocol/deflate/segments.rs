//! Byte-aligned DEFLATE blocks, of which the payload of a message can be put together.

/// Appends `data` as non-final stored blocks, which end on a byte: 5 bytes more for each 65,535. Nothing for no data.
pub fn stored(data: &[u8], out: &mut Vec<u8>) {
    for block in data.chunks(usize::from(u16::MAX)) {
        let length = block.len() as u16;
        out.push(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
}

/// What follows the last segment or stored block of a message.
///
/// The receiver appends `00 00 ff ff` to every payload. With this byte before it, those four are the rest of an empty
/// stored block, whatever kind of block came last. (After a segment its own last four bytes could be cut off instead,
/// which saves five bytes in all; but then the end of a shared segment would depend on where it stands.)
pub const SEGMENTS_END: [u8; 1] = [0x00];

/// Makes a concatenation of segments and stored blocks, in any mix and also none at all, the payload of a message.
pub fn finish_segments(out: &mut Vec<u8>) {
    out.extend_from_slice(&SEGMENTS_END);
}

/// What a sync flush ends with: the length fields of an empty stored block. A sender strips it from the end of a
/// message, a receiver puts it back (RFC 7692 §7.2.1, §7.2.2).
pub(super) const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
