//! Byte-aligned DEFLATE blocks. The payload of a message can be put together of them.

/// Appends `data` as non-final stored blocks, which end on a byte. A block of up to 65,535 bytes takes 5 bytes more. Without data,
/// nothing is appended.
pub fn stored(data: &[u8], out: &mut Vec<u8>) {
    for block in data.chunks(usize::from(u16::MAX)) {
        let length = block.len() as u16;
        out.push(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
}

/// Makes a concatenation of segments and stored blocks the payload of a message. There may be any mix of them, also none.
///
/// It appends one zero byte. The receiver appends `00 00 ff ff` to every payload. Together, the five bytes are an empty stored
/// block, whatever kind of block came before. (After a segment, its own last four bytes could be cut off instead. That would
/// save five bytes in all, but the bytes of a shared segment would depend on its place.)
pub fn finish_segments(out: &mut Vec<u8>) {
    out.push(0);
}

/// The end of a sync flush: the length fields of an empty stored block. The sender cuts it off the end of a message, and the
/// receiver puts it back (RFC 7692 §7.2.1, §7.2.2).
pub(super) const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
