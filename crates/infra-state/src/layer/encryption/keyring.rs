//! Keys, and which of them writes.

use std::fmt;
use std::sync::Arc;

use infra_core::Secret;
use ring::rand::{SecureRandom, SystemRandom};

use super::SALT;
use super::seal::Sealer;
use crate::driver::DriverError;
use crate::error::{Error, ErrorKind, Result};

const LONGEST_ID: usize = 32;

/// 32 random bytes that encrypt values. Never shown.
#[derive(Clone)]
pub struct EncryptionKey(Arc<Sealer>);

impl EncryptionKey {
    /// A key of these bytes, which should come from a generator of random numbers, as
    /// `openssl rand -hex 32` does; not from a password.
    pub fn new(bytes: [u8; 32]) -> Self {
        EncryptionKey(Arc::new(Sealer::new(&bytes)))
    }

    /// A key of 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`InvalidLayers`](ErrorKind::InvalidLayers) for anything else; the text is not shown.
    pub fn from_hex(text: &Secret) -> Result<Self> {
        match parse_hex(text.expose().trim()) {
            Some(bytes) => Ok(EncryptionKey::new(bytes)),
            None => Err(invalid("an encryption key has 64 hexadecimal digits")),
        }
    }
}

/// The keys that values may be stored with, each by its id. The current one writes, all read.
///
/// To rotate: add the new key as an old one in every process, so that all can read it; then make
/// it the current one; then [`reencrypt`](Keyring::reencrypt); then drop the old one.
///
/// ```
/// use infra_state::layer::{EncryptionKey, Keyring};
///
/// # fn main() -> Result<(), infra_state::Error> {
/// let from_settings = "9f".repeat(32).into();
/// let ring = Keyring::new("2026-11", EncryptionKey::from_hex(&from_settings)?)?
///     .and_old("2025-03", EncryptionKey::new([7; 32]))?;
/// assert_eq!(ring.current_id(), "2026-11");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Keyring {
    /// The first is the current one.
    keys: Vec<(Arc<str>, EncryptionKey)>,
    accept_plain: bool,
    random: SystemRandom,
}

impl Keyring {
    /// A ring of one key. The id is stored beside each value: 1 to 32 visible ASCII characters.
    ///
    /// # Errors
    /// [`InvalidLayers`](ErrorKind::InvalidLayers) for another id.
    pub fn new(id: impl Into<String>, current: EncryptionKey) -> Result<Self> {
        let ring = Keyring {
            keys: Vec::new(),
            accept_plain: false,
            random: SystemRandom::new(),
        };
        ring.and_old(id, current)
    }

    /// Adds a key that only reads.
    ///
    /// # Errors
    /// As [`Keyring::new`], and for an id that is there already.
    pub fn and_old(mut self, id: impl Into<String>, key: EncryptionKey) -> Result<Self> {
        let id = id.into();
        let shape = (1..=LONGEST_ID).contains(&id.len());
        if !shape || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(invalid("a key id has 1 to 32 visible ASCII characters"));
        }
        if self.keys.iter().any(|(known, _)| **known == *id) {
            return Err(invalid("two keys of one ring have the same id"));
        }
        self.keys.push((id.into(), key));
        Ok(self)
    }

    /// Whether values that are not encrypted are read as they are, while an existing store is
    /// being encrypted. Default false: whoever can write to the backend could otherwise plant
    /// values.
    #[must_use]
    pub fn accept_plain(mut self, accept: bool) -> Self {
        self.accept_plain = accept;
        self
    }

    /// The id of the key that writes.
    pub fn current_id(&self) -> &str {
        self.current().0
    }

    pub(super) fn accepts_plain(&self) -> bool {
        self.accept_plain
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "a ring begins with one key and only grows"
    )]
    pub(super) fn current(&self) -> (&str, &Sealer) {
        let (id, key) = &self.keys[0];
        (id, &key.0)
    }

    pub(super) fn by_id(&self, id: &[u8]) -> Result<&Sealer, DriverError> {
        let found = (self.keys.iter()).find(|(known, _)| known.as_bytes() == id);
        found.map(|(_, key)| &*key.0).ok_or_else(|| {
            let id: String = String::from_utf8_lossy(id)
                .chars()
                .take(LONGEST_ID)
                .flat_map(char::escape_debug)
                .collect();
            let message = format!("the value was stored with the key `{id}`, which is not known");
            DriverError::new(ErrorKind::UnknownKeyId, message)
        })
    }

    pub(super) fn salt(&self) -> Result<[u8; SALT], DriverError> {
        let mut salt = [0; SALT];
        match self.random.fill(&mut salt) {
            Ok(()) => Ok(salt),
            Err(_) => {
                let message = "the system has no random numbers";
                Err(DriverError::new(ErrorKind::Backend, message))
            }
        }
    }
}

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        let digits = text.get(2 * index..2 * index + 2)?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(bytes)
}

fn invalid(message: &str) -> Error {
    let cause = DriverError::new(ErrorKind::InvalidLayers, message);
    Error::new("encryption", None, "state", cause)
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncryptionKey(***)")
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = self.keys.iter().map(|(id, _)| &**id).collect();
        f.debug_struct("Keyring")
            .field("current", &self.current_id())
            .field("ids", &ids)
            .field("accept_plain", &self.accept_plain)
            .finish_non_exhaustive()
    }
}
