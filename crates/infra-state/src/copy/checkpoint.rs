//! What has arrived, in a file.
//!
//! A header, and then 8 bytes for each key: a digest of the key and the value that the target has
//! acknowledged. A value that has changed since has another digest, and is copied again. A record
//! that was cut off by a crash is one key that is copied once more.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const HEADER: &[u8] = b"infra copy 1\n";
const RECORD: usize = 8;
/// More than that does not fit into memory comfortably: 8 bytes and the set's own for each.
const MOST: u64 = 50_000_000;

#[derive(Debug)]
pub(super) struct Checkpoint {
    path: PathBuf,
    file: File,
    known: HashSet<u64>,
}

impl Checkpoint {
    /// Opens the file, or makes it. Blocks.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let known = read(&mut file)?;
        Ok(Checkpoint {
            path: path.to_owned(),
            file,
            known,
        })
    }

    pub(super) fn is_new(&self) -> bool {
        self.known.is_empty()
    }

    pub(super) fn knows(&self, digest: u64) -> bool {
        self.known.contains(&digest)
    }

    /// Remembers what has arrived, and returns when the disk has it. Blocks.
    pub(super) fn append(&mut self, digests: &[u64]) -> io::Result<()> {
        let bytes: Vec<u8> = digests.iter().flat_map(|d| d.to_be_bytes()).collect();
        self.file.write_all(&bytes)?;
        self.file.sync_data()
    }

    /// There is nothing left to go on with. Blocks.
    pub(super) fn remove(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }
}

/// Reads what is there and leaves the file at the end of its last whole record.
fn read(file: &mut File) -> io::Result<HashSet<u64>> {
    let length = file.metadata()?.len();
    if length < HEADER.len() as u64 {
        return begin(file);
    }
    if length > MOST * RECORD as u64 {
        return Err(invalid("it is too large"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let records = bytes
        .strip_prefix(HEADER)
        .ok_or_else(|| invalid("it is no checkpoint of a copy"))?;
    let whole = records.chunks_exact(RECORD);
    let end = length - whole.remainder().len() as u64;
    let known = whole.filter_map(|record| Some(u64::from_be_bytes(record.try_into().ok()?)));
    let known = known.collect();
    file.set_len(end)?;
    file.seek(SeekFrom::Start(end))?;
    Ok(known)
}

/// A new file, or one whose header was cut off by a crash.
fn begin(file: &mut File) -> io::Result<HashSet<u64>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    if !HEADER.starts_with(&bytes) {
        return Err(invalid("it is no checkpoint of a copy"));
    }
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(HEADER)?;
    file.sync_data()?;
    Ok(HashSet::new())
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A digest of a key and its value: FNV-1a, mixed, the same in every version of this crate.
pub(super) fn digest(key: &str, value: &[u8]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    // No key holds a byte 0xff, so no two pairs are the same text.
    let bytes = key.bytes().chain([0xff]).chain(value.iter().copied());
    for byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m02_a_torn_record_is_forgotten_and_the_rest_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        let mut checkpoint = Checkpoint::open(&path).unwrap();
        assert!(checkpoint.is_new());
        checkpoint.append(&[1, 2, 3]).unwrap();
        drop(checkpoint);
        let torn = std::fs::metadata(&path).unwrap().len() - 3;
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(torn).unwrap();
        let mut checkpoint = Checkpoint::open(&path).unwrap();
        assert!(checkpoint.knows(1) && checkpoint.knows(2) && !checkpoint.knows(3));
        checkpoint.append(&[4]).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        assert!(checkpoint.knows(2) && checkpoint.knows(4));
        checkpoint.remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn m02_a_header_that_was_cut_off_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        for length in 0..HEADER.len() {
            std::fs::write(&path, &HEADER[..length]).unwrap();
            Checkpoint::open(&path).unwrap().append(&[7]).unwrap();
            assert!(Checkpoint::open(&path).unwrap().knows(7), "{length}");
        }
    }

    #[test]
    fn a_file_that_is_no_checkpoint_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        for text in ["remember the milk", "milk"] {
            std::fs::write(&path, text).unwrap();
            assert!(Checkpoint::open(&path).is_err());
            assert_eq!(std::fs::read(&path).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn digests_tell_key_and_value_apart() {
        let all = [
            ("ab", "c"),
            ("a", "bc"),
            ("", "abc"),
            ("abc", ""),
            ("ab", "d"),
        ];
        let digests: HashSet<u64> = all.iter().map(|(k, v)| digest(k, v.as_bytes())).collect();
        assert_eq!(digests.len(), all.len());
    }
}
