//! Unmasking (RFC 6455 §5.3), in place.

/// Applies `mask` to a part of a frame's payload. `phase` bytes of the payload came before this part.
///
/// Only the last two bits of `phase` matter. The loop works on words of eight bytes, which the compiler turns into vector
/// instructions by itself.
pub fn unmask(payload: &mut [u8], mut mask: [u8; 4], phase: usize) {
    mask.rotate_left(phase & 3);
    let [a, b, c, d] = mask;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_definition_for_every_length_and_phase() {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        for length in 0..70 {
            for phase in 0..9 {
                let payload: Vec<u8> = (0..length).map(|index| (index * 7) as u8).collect();
                let expected: Vec<u8> = payload
                    .iter()
                    .enumerate()
                    .map(|(index, byte)| byte ^ mask[(index + phase) % 4])
                    .collect();
                let mut actual = payload;
                unmask(&mut actual, mask, phase);
                assert_eq!(actual, expected, "length {length}, phase {phase}");
            }
        }
    }
}
