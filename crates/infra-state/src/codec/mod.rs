//! Values as bytes: `json`, `msgpack`, `finite` for the numbers that neither may hold, and the
//! `buffer` they are written in.

mod buffer;
mod finite;
mod json;
#[cfg(feature = "msgpack")]
mod msgpack;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::driver::DriverError;

/// The form in which typed values are stored. Bytes stored as they are have none.
///
/// What one form can hold the other can too: NaN and infinity are refused in both. A value stored
/// in one form and read in the other is a [`Decode`](crate::ErrorKind::Decode) error, never another
/// value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Encoding {
    /// JSON text, which every language and `redis-cli` can read. The default.
    #[default]
    Json,
    /// MessagePack, structs as maps with the names of their fields: fewer bytes for numbers and
    /// bytes, nothing for eyes. There are no counters in it:
    /// [`StateStore::increment`](crate::StateStore::increment) is
    /// [`Unsupported`](crate::ErrorKind::Unsupported), because backends count in decimal text.
    #[cfg(feature = "msgpack")]
    MessagePack,
}

impl Encoding {
    pub(crate) fn encode<T: Serialize + ?Sized>(self, value: &T) -> Result<Bytes, DriverError> {
        match self {
            Encoding::Json => json::encode(value),
            #[cfg(feature = "msgpack")]
            Encoding::MessagePack => Ok(msgpack::encode(value)?.into_boxed_slice().into()),
        }
    }

    pub(crate) fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, DriverError> {
        match self {
            Encoding::Json => json::decode(bytes),
            #[cfg(feature = "msgpack")]
            Encoding::MessagePack => msgpack::decode(bytes),
        }
    }

    /// Whether a stored integer is the decimal text that backends count in.
    pub(crate) fn counts(self) -> bool {
        self == Encoding::Json
    }
}
