//! The file itself: found or created, locked, and its folder made to remember it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use super::config::FileOptions;
use super::error::{FileError, FileFault};
use super::storage::Storage;

/// An open and locked file. The lock belongs to the open file and ends with it, also after
/// kill -9, so nothing can be left behind; it is kept while the database within is opened anew.
pub(super) struct Disk {
    path: PathBuf,
    file: File,
    #[cfg(test)]
    faults: std::sync::Arc<super::faults::Faults>,
}

/// What [`Disk::open`] found.
pub(super) enum Found {
    Existing(Disk),
    /// Nothing: here is a new empty file, not yet under its name.
    Created(Unnamed),
}

/// A new file under a temporary name. Whatever happens before [`Unnamed::publish`], nobody finds
/// half a file under the real one.
pub(super) struct Unnamed {
    disk: Disk,
    temporary: PathBuf,
}

impl Disk {
    pub(super) fn open(path: &Path, options: &FileOptions) -> Result<Found, FileError> {
        match fs::metadata(path) {
            Ok(meta) if !meta.is_file() => Err(FileError::new(path, FileFault::NotAFile)),
            Ok(_) => Self::existing(path, options).map(Found::Existing),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Unnamed::create(&end_of_links(path), options).map(Found::Created)
            }
            Err(error) => Err(FileError::io(path, &error)),
        }
    }

    /// The file that another process has just created.
    pub(super) fn open_existing(path: &Path, options: &FileOptions) -> Result<Found, FileError> {
        Self::existing(path, options).map(Found::Existing)
    }

    /// Checks that a file which is about to be replaced is one, and that nobody has it open.
    pub(super) fn check_unused(path: &Path, options: &FileOptions) -> Result<(), FileError> {
        match fs::metadata(path) {
            Ok(meta) if !meta.is_file() => Err(FileError::new(path, FileFault::NotAFile)),
            Ok(_) => {
                let file = File::open(path).map_err(|error| FileError::io(path, &error))?;
                Disk::locked(path, file, options).map(drop)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(FileError::io(path, &error)),
        }
    }

    fn existing(path: &Path, options: &FileOptions) -> Result<Disk, FileError> {
        let opened = OpenOptions::new().read(true).write(true).open(path);
        let file = opened.map_err(|error| FileError::io(path, &error))?;
        let disk = Disk::locked(path, file, options)?;
        if disk.len()? == 0 {
            return Err(FileError::new(path, FileFault::Empty));
        }
        Ok(disk)
    }

    #[cfg_attr(
        not(test),
        expect(unused_variables, reason = "only tests inject faults")
    )]
    fn locked(path: &Path, file: File, options: &FileOptions) -> Result<Disk, FileError> {
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => FileError::new(path, FileFault::AlreadyOpen),
            TryLockError::Error(error) => FileError::io(path, &error),
        })?;
        Ok(Disk {
            path: path.to_owned(),
            file,
            #[cfg(test)]
            faults: options.faults.clone(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the open file is still the one under its name. Only systems that number their files
    /// can tell; others do not let an open file be removed.
    pub(super) fn is_in_place(&self) -> bool {
        #[cfg(test)]
        self.faults.looked();
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            // Whoever may no longer look there knows nothing, and the open file works as before.
            match (fs::metadata(&self.path), self.file.metadata()) {
                (Ok(named), Ok(open)) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
                // Nothing is there, or what was the folder is none.
                (Err(error), _) => !matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ),
                _ => true,
            }
        }
        #[cfg(not(unix))]
        true
    }

    pub(super) fn len(&self) -> Result<u64, FileError> {
        let meta = self.file.metadata();
        Ok(meta
            .map_err(|error| FileError::io(&self.path, &error))?
            .len())
    }

    /// The file for one opening of the database in it, not modified before the storage is
    /// released.
    pub(super) fn storage(&self) -> Result<Storage, FileError> {
        let file = self.file.try_clone();
        let file = file.map_err(|error| FileError::io(&self.path, &error))?;
        let storage = Storage::new(
            file,
            #[cfg(test)]
            self.faults.clone(),
        );
        storage.map_err(|error| FileError::io(&self.path, &error))
    }
}

impl Unnamed {
    pub(super) fn create(path: &Path, options: &FileOptions) -> Result<Unnamed, FileError> {
        static CREATED: AtomicU64 = AtomicU64::new(0);
        let Some(name) = path.file_name() else {
            return Err(FileError::new(path, FileFault::NotAFile));
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        loop {
            let count = CREATED.fetch_add(1, Ordering::Relaxed);
            let mut hidden = hidden.clone();
            hidden.push(format!(".{}-{count}.new", process::id()));
            let temporary = path.with_file_name(hidden);
            let created = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&temporary);
            match created {
                Ok(file) => return Self::lock(path, file, temporary, options),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    remove_leftover(&temporary);
                }
                Err(error) => return Err(FileError::io(path, &error).while_creating()),
            }
        }
    }

    fn lock(
        path: &Path,
        file: File,
        temporary: PathBuf,
        options: &FileOptions,
    ) -> Result<Unnamed, FileError> {
        match Disk::locked(path, file, options) {
            Ok(disk) => Ok(Unnamed { disk, temporary }),
            Err(error) => {
                let _ = fs::remove_file(&temporary);
                Err(error)
            }
        }
    }

    pub(super) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Gives the file its name, for good: the folder is synced too. `None` when another process
    /// was quicker.
    pub(super) fn publish(self) -> Result<Option<Disk>, FileError> {
        let path = &self.disk.path;
        let linked = fs::hard_link(&self.temporary, path);
        let named = match linked {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            // A file system without hard links.
            Err(_) => {
                fs::rename(&self.temporary, path).map_err(|error| FileError::io(path, &error))?;
                true
            }
        };
        let _ = fs::remove_file(&self.temporary);
        if !named {
            return Ok(None);
        }
        self.disk.sync_folder()?;
        Ok(Some(self.disk))
    }

    /// Gives the file its name for good, in place of a file that has it.
    pub(super) fn replace(self) -> Result<(), FileError> {
        let path = &self.disk.path;
        fs::rename(&self.temporary, path).map_err(|error| FileError::io(path, &error))?;
        self.disk.sync_folder()
    }

    /// Leaves nothing behind.
    pub(super) fn discard(self) {
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Removes what a process that was killed has left under the name that this one wanted. Numbers of
/// processes come again, in a container at each start.
fn remove_leftover(temporary: &Path) {
    if File::open(temporary).is_ok_and(|file| file.try_lock().is_ok()) {
        let _ = fs::remove_file(temporary);
    }
}

/// Where the file is to be created when the path is a link to one that is not there yet.
fn end_of_links(path: &Path) -> PathBuf {
    const MOST: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..MOST {
        let Ok(target) = fs::read_link(&path) else {
            break;
        };
        path = path
            .parent()
            .map_or(target.clone(), |folder| folder.join(target));
    }
    path
}

impl Disk {
    /// A new file exists for good only when the folder that lists it was synced.
    fn sync_folder(&self) -> Result<(), FileError> {
        #[cfg(test)]
        self.faults.folder_synced();
        if cfg!(unix) {
            let folder = match self.path.parent() {
                Some(folder) if !folder.as_os_str().is_empty() => folder,
                _ => Path::new("."),
            };
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(|error| FileError::io(&self.path, &error))?;
        }
        Ok(())
    }
}
