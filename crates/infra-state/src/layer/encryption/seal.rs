//! One key at work.

use bytes::Bytes;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

use super::{CHECK, tampered};
use crate::driver::DriverError;
use crate::error::ErrorKind;

const EXTRACT: &[u8] = b"infra-state encryption at rest 1";
const FOR_VALUE: &[u8] = b"value";
const FOR_CHECK: &[u8] = b"check";

/// What a key is made into once: the source of the keys of all values.
pub(super) struct Sealer {
    source: Prk,
    check: [u8; CHECK],
}

impl Sealer {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let source = Salt::new(HKDF_SHA256, EXTRACT).extract(key);
        let mut check = [0; CHECK];
        // Fails for lengths that HKDF cannot make; this one is short. If it ever did, all checks
        // would be alike, and the authentication of the value would still find a wrong key.
        if let Ok(bytes) = source.expand(&[FOR_CHECK], Length) {
            let _ = bytes.fill(&mut check);
        }
        Sealer { source, check }
    }

    /// Bytes that only this key has; they say nothing of it.
    pub(super) fn check(&self) -> &[u8] {
        &self.check
    }

    /// Appends the encrypted value to the header that is authenticated with it.
    pub(super) fn seal(
        &self,
        salt: &[u8],
        entry: &[u8],
        value: &[u8],
        frame: &mut Vec<u8>,
    ) -> Result<(), DriverError> {
        let aad = Aad::from([&**frame, entry].concat());
        let key = self.key_of_value(salt).ok_or_else(failed)?;
        let start = frame.len();
        frame.extend_from_slice(value);
        let in_place = frame.get_mut(start..).ok_or_else(failed)?;
        let tag = key.seal_in_place_separate_tag(once(), aad, in_place);
        frame.extend_from_slice(tag.map_err(|_| failed())?.as_ref());
        Ok(())
    }

    pub(super) fn open(
        &self,
        salt: &[u8],
        authenticated: &[&[u8]],
        ciphertext: &[u8],
    ) -> Result<Bytes, DriverError> {
        let aad = Aad::from(authenticated.concat());
        let key = self.key_of_value(salt).ok_or_else(failed)?;
        let mut in_place = ciphertext.to_vec();
        let length = match key.open_in_place(once(), aad, &mut in_place) {
            Ok(value) => value.len(),
            Err(_) => return Err(tampered()),
        };
        in_place.truncate(length);
        Ok(in_place.into())
    }

    fn key_of_value(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let info = [FOR_VALUE, salt];
        let made = self.source.expand(&info, &CHACHA20_POLY1305).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(made)))
    }
}

/// Every key of a value encrypts one message, so any nonce has never been used with it.
fn once() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        CHECK
    }
}

#[cold]
fn failed() -> DriverError {
    DriverError::new(ErrorKind::Backend, "the value cannot be encrypted")
}
