//! How much room writes take up in the file, and whether there was enough.

use super::error::{FileError, FileFault};
use super::view::{Changes, Entry};

const PAGE: u64 = 4096;
/// Of the file so much may be overwritten before a commit has to be durable.
const SHARE: u64 = 4;
/// However small the file is.
const LEAST: u64 = 1 << 20;
/// Less says nothing about whether there is room again: a file has some pages to spare that come
/// and go.
const SMALLEST_PROBE: u64 = 256 << 10;
/// More is not asked for.
const LARGEST_PROBE: u64 = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Space {
    /// Bytes of pages replaced since the last durable commit: the disk needs the old ones until
    /// the next one.
    replaced: u64,
    may_wait: u64,
    /// What there was no room for, until as much was written again.
    refused: Option<u64>,
}

/// Bytes of the pages that these changes replace at most.
pub(super) fn needed(changes: &Changes) -> u64 {
    changes.values().map(pages).sum()
}

/// The leaf with the row, and the pages of the value.
fn pages(entry: &Option<Entry>) -> u64 {
    let value = entry.as_ref().map_or(0, |entry| entry.value.len() as u64);
    PAGE + value.next_multiple_of(PAGE)
}

impl Space {
    /// Whether so much more has to be made durable at once, lest the file grow.
    pub(super) fn is_due(&self, bytes: u64) -> bool {
        self.replaced + bytes > self.may_wait.max(LEAST)
    }

    /// So much was committed; `file` is the length of the file where that is durable.
    pub(super) fn committed(&mut self, bytes: u64, file: Option<u64>) {
        match file {
            None => self.replaced += bytes,
            Some(len) => {
                self.replaced = 0;
                self.may_wait = len / SHARE;
                let refused = self.refused.take();
                self.refused = refused
                    .filter(|refused| *refused > bytes)
                    .map(|refused| refused - bytes);
            }
        }
    }

    /// So much could not be committed.
    pub(super) fn failed(&mut self, bytes: u64, error: &FileError) {
        if error.fault() == FileFault::StorageFull {
            let most = self.refused.unwrap_or(1).max(bytes);
            self.refused = Some(most.clamp(SMALLEST_PROBE, LARGEST_PROBE));
        }
    }

    /// How much has to be written to know that there is room again.
    pub(super) fn to_probe(&self) -> Option<u64> {
        self.refused
    }
}
