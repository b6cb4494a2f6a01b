//! What can be chosen about the file driver.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use infra_core::{SharedClock, SystemClock};
use percent_encoding::percent_decode_str;

use crate::capabilities::Acknowledged;
use crate::driver::DriverError;
use crate::error::ErrorKind;

/// Options of the file driver.
#[derive(Clone)]
pub struct FileOptions {
    pub(crate) clock: SharedClock,
    pub(crate) wall: WallClock,
    pub(crate) durability: FileDurability,
    pub(crate) max_resident_bytes: usize,
    pub(crate) queue_capacity: usize,
    pub(crate) sweep_interval: Duration,
    #[cfg(test)]
    pub(crate) faults: Arc<super::faults::Faults>,
}

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileDurability {
    /// After it was made durable (`fdatasync`): it survives kill -9, and a power cut if the disk
    /// keeps its word.
    Immediate,
    /// At once. What was acknowledged is durable `within` this time, in the order in which it was
    /// written, so that kill -9 or a power cut takes back at most the writes of that long; a
    /// commit that is slow or fails makes it longer. When a commit fails and the file has to be opened
    /// anew (a full disk), the acknowledged writes that it would have made durable are taken back
    /// together: an error is logged and health is down, but their writers are not told, and writes
    /// after them may be accepted. A clean close loses nothing. It is durable
    /// sooner when a quarter of the file was overwritten, and at least 1 MiB: space is used again
    /// only after that, and the file would grow.
    Eventual {
        /// At least 1 ms.
        within: Duration,
    },
}

impl FileDurability {
    /// What an acknowledged write has reached.
    pub(crate) fn acknowledged(self) -> Acknowledged {
        match self {
            FileDurability::Immediate => Acknowledged::Fsynced,
            FileDurability::Eventual { .. } => Acknowledged::Accepted,
        }
    }
}

/// Milliseconds since 1970.
pub(crate) type WallClock = Arc<dyn Fn() -> u64 + Send + Sync>;

impl FileOptions {
    /// Durable at once, up to 1 GiB of keys and values, 4,096 writes waiting, a sweep every second.
    pub fn new() -> Self {
        FileOptions {
            clock: SystemClock::shared(),
            wall: Arc::new(system_millis),
            durability: FileDurability::Immediate,
            max_resident_bytes: 1 << 30,
            queue_capacity: 4_096,
            sweep_interval: Duration::from_secs(1),
            #[cfg(test)]
            faults: Arc::default(),
        }
    }

    /// When a write is acknowledged. Default [`FileDurability::Immediate`].
    #[must_use]
    pub fn durability(mut self, durability: FileDurability) -> Self {
        self.durability = match durability {
            FileDurability::Eventual { within } => FileDurability::Eventual {
                within: within.max(Duration::from_millis(1)),
            },
            other => other,
        };
        self
    }

    /// How many bytes of keys and values are held in memory, with 160 bytes for each pair; the
    /// file may hold any number. Keys always are in memory, and values of up to 128 bytes; where
    /// these alone would pass the bound, a write fails as
    /// [`ErrorKind::Capacity`](crate::ErrorKind::Capacity) and changes nothing, and so does
    /// opening the file. Longer values leave memory when they become too many, first those that
    /// were not asked for since the last round; they are read from the file when they are, and
    /// come back. A value of more than a sixteenth of the bound never stays. Default 1 GiB.
    #[must_use]
    pub fn max_resident_bytes(mut self, bytes: usize) -> Self {
        self.max_resident_bytes = bytes;
        self
    }

    /// How many writes may wait for the disk; one of more than 16 KiB counts as several. Beyond
    /// that calls wait for room, and fail as [`ErrorKind::Busy`](crate::ErrorKind::Busy) at their
    /// deadline. 1 to 1,048,576; default 4,096.
    #[must_use]
    pub fn queue_capacity(mut self, writes: usize) -> Self {
        self.queue_capacity = writes.clamp(1, 1 << 20);
        self
    }

    /// How often expired values are removed from the file, up to 500 in one commit. They are
    /// invisible whatever this is. At least 10 ms; default 1 s.
    #[must_use]
    pub fn sweep_interval(mut self, interval: Duration) -> Self {
        self.sweep_interval = interval.max(Duration::from_millis(10));
        self
    }

    /// The clock that decides what expires while the file is open; a manual one in tests.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }
}

impl Default for FileOptions {
    fn default() -> Self {
        FileOptions::new()
    }
}

impl fmt::Debug for FileOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileOptions")
            .field("durability", &self.durability)
            .field("max_resident_bytes", &self.max_resident_bytes)
            .field("queue_capacity", &self.queue_capacity)
            .field("sweep_interval", &self.sweep_interval)
            .finish_non_exhaustive()
    }
}

/// The path in `file:///path`, with `%20` and the like decoded.
pub(crate) fn path_of_url(url: &str) -> Result<PathBuf, DriverError> {
    let invalid = |what: &str| {
        let message = format!("`{url}` {what}: write file:///folder/name");
        DriverError::new(ErrorKind::InvalidUrl, message)
    };
    let rest = match url.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("file") => rest,
        _ => return Err(invalid("is no file URL")),
    };
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(invalid("holds no absolute path of a file"));
    }
    if path.contains(['?', '#']) {
        return Err(invalid("has options, which files do not take"));
    }
    let path = percent_decode_str(path)
        .decode_utf8()
        .map_err(|_| invalid("is not UTF-8"))?;
    if path.contains('\0') {
        return Err(invalid("holds a zero character"));
    }
    // On Windows `/C:/folder` is `C:/folder`.
    let drive = cfg!(windows) && path.get(2..3) == Some(":");
    let path = if drive {
        path.get(1..).unwrap_or_default()
    } else {
        &*path
    };
    Ok(PathBuf::from(path))
}

fn system_millis() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
