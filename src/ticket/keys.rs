//! What proves that a ticket or a secret was given here.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use subtle::ConstantTimeEq as _;

/// The keys of a server. With a key of the application, those of the next process are the same.
pub(super) struct Keys {
    marking: hmac::Key,
    /// `None`: the key is of this process alone, so a ticket need not say whose it is.
    sealing: Option<LessSafeKey>,
}

/// They are never shown.
impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Keys")
    }
}

impl Keys {
    /// Makes them of the key of the application, or of chance. `None`: the system has no random bytes.
    pub fn new(key: Option<&[u8]>) -> Option<Self> {
        let Some(key) = key else {
            let marking = hmac::Key::new(hmac::HMAC_SHA256, &random::<32>()?);
            return Some(Self { marking, sealing: None });
        };
        let root = hmac::Key::new(hmac::HMAC_SHA256, key);
        let derived = |purpose: &[u8]| hmac::sign(&root, purpose);
        let marking = hmac::Key::new(hmac::HMAC_SHA256, derived(b"umbel: secrets of tickets").as_ref());
        let sealing = UnboundKey::new(&CHACHA20_POLY1305, derived(b"umbel: tickets").as_ref()).ok()?;
        Some(Self { marking, sealing: Some(LessSafeKey::new(sealing)) })
    }

    /// Whether tickets say themselves whose they are.
    pub fn seals(&self) -> bool {
        self.sealing.is_some()
    }

    /// Writes numbers, and what proves that they were written here: `MARK` bytes. Numbers of another `kind` are proven otherwise.
    pub fn write<const MARK: usize>(&self, kind: Kind, numbers: &[u64]) -> String {
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        let mark = self.mark(kind, &bytes);
        bytes.extend_from_slice(&mark.as_ref()[..MARK]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads them. `None`: they were not written here.
    pub fn read<const MARK: usize, const COUNT: usize>(
        &self,
        kind: Kind,
        text: &str,
    ) -> Option<[u64; COUNT]> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == 8 * COUNT + MARK)?;
        let (numbers, mark) = bytes.split_at(8 * COUNT);
        let is_ours = self.mark(kind, numbers).as_ref()[..MARK].ct_eq(mark);
        let mut found = [0; COUNT];
        for (number, bytes) in found.iter_mut().zip(numbers.chunks_exact(8)) {
            *number = bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        }
        bool::from(is_ours).then_some(found)
    }

    /// Writes what nobody else can read or change. `None`: the keys are of this process alone.
    pub fn seal(&self, mut data: Vec<u8>) -> Option<String> {
        let nonce = random::<NONCE_LEN>()?;
        let key = self.sealing.as_ref()?;
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut data).ok()?;
        data.splice(0..0, nonce);
        Some(URL_SAFE_NO_PAD.encode(data))
    }

    /// Reads it.
    pub fn unseal(&self, text: &str) -> Option<Vec<u8>> {
        let key = self.sealing.as_ref()?;
        let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let nonce = *bytes.first_chunk::<NONCE_LEN>()?;
        let sealed = bytes.get_mut(NONCE_LEN..)?;
        let data = key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::empty(), sealed).ok()?;
        Some(data.to_vec())
    }

    fn mark(&self, kind: Kind, numbers: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.marking);
        context.update(&[kind as u8]);
        context.update(numbers);
        context.sign()
    }
}

/// What numbers are.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// That of a ticket.
    Ticket,
    /// Those of a ticket and of one opening.
    Secret,
}

/// A number that nobody can guess. `None`: the system has none.
pub(super) fn random_number() -> Option<u64> {
    Some(u64::from_ne_bytes(random()?))
}

fn random<const BYTES: usize>() -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else_is() {
        let key: &[u8] = b"a key of the application, 32 bytes";
        let (keys, again) = (Keys::new(Some(key)).expect("random"), Keys::new(Some(key)).expect("random"));
        let other = Keys::new(None).expect("random");
        let text = keys.write::<11>(Kind::Secret, &[7, u64::MAX]);
        assert_eq!(text.len(), 36);
        assert_eq!(again.read::<11, 2>(Kind::Secret, &text), Some([7, u64::MAX]));
        assert_eq!(other.read::<11, 2>(Kind::Secret, &text), None);
        assert_eq!(keys.read::<11, 2>(Kind::Ticket, &text), None);
        for at in 0..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[at] = if wrong[at] == b'A' { b'B' } else { b'A' };
            let wrong = String::from_utf8(wrong).expect("ASCII");
            assert_eq!(keys.read::<11, 2>(Kind::Secret, &wrong), None, "{wrong}");
            assert_eq!(keys.read::<11, 2>(Kind::Secret, &text[..at]), None);
        }
        let sealed = keys.seal(b"ann".to_vec()).expect("a key");
        assert_eq!(again.unseal(&sealed).as_deref(), Some(&b"ann"[..]));
        assert!(other.unseal(&sealed).is_none() && other.seal(Vec::new()).is_none());
        for wrong in ["", "AAAA", &sealed[..sealed.len() - 2], &format!("A{sealed}")] {
            assert!(keys.unseal(wrong).is_none());
        }
    }
}
