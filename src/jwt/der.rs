//! As much of DER as a public key needs (RFC 5280 §4.1.2.7, RFC 8017 A.1.1).

use super::algorithm::Kind;

/// A public key as it is written in DER.
pub(super) enum PublicKey<'a> {
    /// The modulus and the exponent, without leading zeros.
    Rsa { modulus: &'a [u8], exponent: &'a [u8] },
    /// A point of a curve, in the form of that curve.
    Point(Kind, &'a [u8]),
}

/// Reads a `SubjectPublicKeyInfo`. `None`: it is broken, or of a kind that no algorithm uses.
pub(super) fn public_key(der: &[u8]) -> Option<PublicKey<'_>> {
    let mut info = whole(der, SEQUENCE)?;
    let mut algorithm = take(&mut info, SEQUENCE)?;
    let (&unused_bits, key) = take(&mut info, BIT_STRING)?.split_first()?;
    if unused_bits != 0 || !info.is_empty() {
        return None;
    }
    match take(&mut algorithm, OBJECT)? {
        RSA => rsa_key(key),
        ED25519 => Some(PublicKey::Point(Kind::Ed25519, key)),
        ELLIPTIC => match take(&mut algorithm, OBJECT)? {
            P256 => Some(PublicKey::Point(Kind::P256, key)),
            P384 => Some(PublicKey::Point(Kind::P384, key)),
            _ => None,
        },
        _ => None,
    }
}

/// Reads an `RSAPublicKey`.
fn rsa_key(der: &[u8]) -> Option<PublicKey<'_>> {
    let mut key = whole(der, SEQUENCE)?;
    let (modulus, exponent) = (positive(&mut key)?, positive(&mut key)?);
    key.is_empty().then_some(PublicKey::Rsa { modulus, exponent })
}

/// The one value that a text holds.
fn whole(mut der: &[u8], tag: u8) -> Option<&[u8]> {
    take(&mut der, tag).filter(|_| der.is_empty())
}

/// Takes the next value.
fn take<'a>(rest: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (&[found, first], mut after) = rest.split_first_chunk()?;
    let length = if first < 0x80 {
        usize::from(first)
    } else {
        let count = usize::from(first & 0x7f);
        let (digits, others) = after.split_at_checked(count).filter(|_| (1..=4).contains(&count))?;
        after = others;
        digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit))
    };
    let (value, others) = after.split_at_checked(length)?;
    *rest = others;
    (found == tag).then_some(value)
}

fn positive<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let value = take(rest, INTEGER)?;
    match value {
        [0, digits @ ..] if !digits.is_empty() => Some(digits),
        [1..=0x7f, ..] => Some(value),
        _ => None,
    }
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// 1.2.840.113549.1.1.1
const RSA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
/// 1.2.840.10045.2.1
const ELLIPTIC: &[u8] = b"\x2a\x86\x48\xce\x3d\x02\x01";
/// 1.2.840.10045.3.1.7
const P256: &[u8] = b"\x2a\x86\x48\xce\x3d\x03\x01\x07";
/// 1.3.132.0.34
const P384: &[u8] = b"\x2b\x81\x04\x00\x22";
/// 1.3.101.112
const ED25519: &[u8] = b"\x2b\x65\x70";
