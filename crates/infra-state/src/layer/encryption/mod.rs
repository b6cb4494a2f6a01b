//! Encryption at rest.
//!
//! Stored is `C1 45 01`, the length of the key id and the key id, 8 bytes that only this key has
//! (so that a wrong key and tampered bytes are told apart), 24 random bytes, and the value
//! encrypted and authenticated by ChaCha20-Poly1305 under a key that HKDF-SHA-256 makes of the key
//! and those random bytes: each value has a key of its own, so the number of values under one key
//! has no bound that counts. Everything before the ciphertext and the backend's key of the entry
//! are authenticated with it: a ciphertext moved to another entry does not open.

mod keyring;
mod reencrypt;
mod seal;

use std::sync::Arc;

use bytes::Bytes;

use super::transform::{FRAME, Transform, Transformed};
use crate::capabilities::{Capabilities, Versions};
use crate::driver::{DriverError, StateDriver};
use crate::error::ErrorKind;

pub use keyring::{EncryptionKey, Keyring};
pub use reencrypt::Reencrypted;

const ENCRYPTED: u8 = b'E';
const VERSION: u8 = 1;
const CHECK: usize = 8;
const SALT: usize = 24;
const TAG: usize = 16;

impl Keyring {
    pub(super) fn driver(&self, inner: Arc<dyn StateDriver>) -> Arc<dyn StateDriver> {
        Transformed::driver(inner, self.clone())
    }

    /// The id of the key under which this was stored; none for a value that is not encrypted.
    fn key_id(stored: &[u8]) -> Result<Option<&[u8]>, DriverError> {
        match stored {
            [FRAME, ENCRYPTED, VERSION, length, rest @ ..] => {
                let id = rest.get(..usize::from(*length));
                id.map(Some).ok_or_else(tampered)
            }
            [FRAME, ENCRYPTED, ..] => Err(tampered()),
            _ => Ok(None),
        }
    }

    fn open_frame(&self, key: &str, stored: &[u8], id: &[u8]) -> Result<Bytes, DriverError> {
        let known = self.by_id(id)?;
        let header = 4 + id.len() + CHECK + SALT;
        let (header, ciphertext) = stored.split_at_checked(header).ok_or_else(tampered)?;
        let (_, check_and_salt) = header.split_at_checked(4 + id.len()).ok_or_else(tampered)?;
        let (check, salt) = (check_and_salt.split_at_checked(CHECK)).ok_or_else(tampered)?;
        if check != known.check() {
            let message = "the key of this id is not the one that the value was stored with";
            return Err(DriverError::new(ErrorKind::WrongKey, message));
        }
        known.open(salt, &[header, key.as_bytes()], ciphertext)
    }

    fn seal_frame(&self, key: &str, value: &[u8]) -> Result<Bytes, DriverError> {
        let (id, current) = self.current();
        let room = 4 + id.len() + CHECK + SALT + value.len() + TAG;
        let mut frame = Vec::with_capacity(room);
        frame.extend_from_slice(&[FRAME, ENCRYPTED, VERSION, id.len() as u8]);
        frame.extend_from_slice(id.as_bytes());
        frame.extend_from_slice(current.check());
        let salt = self.salt()?;
        frame.extend_from_slice(&salt);
        current.seal(&salt, key.as_bytes(), value, &mut frame)?;
        Ok(frame.into())
    }
}

impl Transform for Keyring {
    fn seal(&self, key: &str, value: Bytes) -> Result<Bytes, DriverError> {
        self.seal_frame(key, &value)
    }

    fn open(&self, key: &str, stored: Bytes) -> Result<Bytes, DriverError> {
        match Self::key_id(&stored)? {
            Some(id) => self.open_frame(key, &stored, id),
            None if self.accepts_plain() => Ok(stored),
            None => {
                let message = "the stored value is not encrypted: allow it by `accept_plain`";
                Err(DriverError::new(ErrorKind::NotEncrypted, message))
            }
        }
    }

    /// What is stored differs with every write, so a change back to an earlier value is seen.
    fn capabilities(&self, inside: Capabilities) -> Capabilities {
        let (id, _) = self.current();
        let overhead = 4 + id.len() + CHECK + SALT + TAG;
        let most = match inside.max_value_bytes {
            usize::MAX => usize::MAX,
            bytes => bytes.saturating_sub(overhead),
        };
        let (versions, ops) = (inside.versions, inside.max_transaction_ops);
        let versions = match versions {
            Versions::Content => Versions::Revision,
            other => other,
        };
        inside
            .with_max_value_bytes(most)
            .with_transactions(versions, ops)
    }

    fn keeps_integers(&self) -> bool {
        false
    }
}

#[cold]
fn tampered() -> DriverError {
    let message = "the stored value was changed after it was encrypted, or moved from another key";
    DriverError::new(ErrorKind::Tampered, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> EncryptionKey {
        EncryptionKey::new([byte; 32])
    }

    fn ring() -> Keyring {
        Keyring::new("k1", key(1)).unwrap()
    }

    fn sealed(value: &'static str) -> Bytes {
        ring().seal("entry", value.into()).unwrap()
    }

    fn kind(ring: &Keyring, entry: &str, stored: &[u8]) -> ErrorKind {
        let error = ring.open(entry, Bytes::copy_from_slice(stored));
        let error = error.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("canary"), "{shown}");
        error.kind()
    }

    #[test]
    fn what_is_stored_opens_again_and_never_looks_the_same() {
        let stored = sealed("canary");
        assert_eq!(ring().open("entry", stored.clone()).unwrap(), "canary");
        assert_ne!(stored, sealed("canary"));
        assert!(memchr::memmem::find(&stored, b"canary").is_none());
        assert_eq!(ring().open("entry", sealed("")).unwrap(), "");
    }

    #[test]
    fn each_way_to_fail_has_an_error_of_its_own() {
        let stored = sealed("canary");
        let wrong = Keyring::new("k1", key(2)).unwrap();
        assert_eq!(kind(&wrong, "entry", &stored), ErrorKind::WrongKey);
        let other = Keyring::new("k2", key(1)).unwrap();
        assert_eq!(kind(&other, "entry", &stored), ErrorKind::UnknownKeyId);
        assert_eq!(kind(&ring(), "moved", &stored), ErrorKind::Tampered);
        assert_eq!(
            kind(&ring(), "entry", b"\"canary\""),
            ErrorKind::NotEncrypted
        );
    }

    #[test]
    fn not_one_bit_can_be_changed_and_not_one_byte_cut_off() {
        let stored = sealed("canary");
        for at in 0..stored.len() {
            let mut changed = stored.to_vec();
            changed[at] ^= 1;
            let changed = kind(&ring(), "entry", &changed);
            let expected = match at {
                0 | 1 => ErrorKind::NotEncrypted,
                4..6 => ErrorKind::UnknownKeyId,
                6..14 => ErrorKind::WrongKey,
                _ => changed,
            };
            assert_eq!(changed, expected, "byte {at}");
            kind(&ring(), "entry", &stored[..at]);
        }
    }

    #[test]
    fn old_keys_read_and_the_current_one_writes() {
        let rotated = Keyring::new("k2", key(2))
            .unwrap()
            .and_old("k1", key(1))
            .unwrap();
        assert_eq!(rotated.open("entry", sealed("canary")).unwrap(), "canary");
        let stored = rotated.seal("entry", "new".into()).unwrap();
        assert_eq!(Keyring::key_id(&stored).unwrap(), Some(&b"k2"[..]));
        assert_eq!(kind(&ring(), "entry", &stored), ErrorKind::UnknownKeyId);
    }

    #[test]
    fn keys_and_ids_that_cannot_be_used_are_refused_and_never_shown() {
        assert!(Keyring::new("", key(1)).is_err());
        assert!(Keyring::new("x".repeat(33), key(1)).is_err());
        assert!(Keyring::new("a b", key(1)).is_err());
        assert!(ring().and_old("k1", key(2)).is_err());
        let hex = "0f".repeat(32);
        assert!(EncryptionKey::from_hex(&hex.clone().into()).is_ok());
        for bad in [&hex[2..], "zz", "", &"é".repeat(32)] {
            let error = EncryptionKey::from_hex(&bad.into()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidLayers);
        }
        let shown = format!("{:?} {:?}", ring(), key(1));
        assert!(shown.contains("k1") && !shown.contains("1, 1"), "{shown}");
    }

    #[test]
    fn plain_values_are_read_where_that_is_allowed() {
        let open = ring().accept_plain(true).open("entry", "plain".into());
        assert_eq!(open.unwrap(), "plain");
    }
}
