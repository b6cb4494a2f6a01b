//! From a path to a thread that is ready to work.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tracing::info;

use super::config::FileOptions;
use super::control::Control;
use super::disk::{Disk, Found};
use super::engine::Engine;
use super::error::FileError;
use super::queue::Queue;
use super::readers::Readers;
use super::time::Time;
use super::view::View;
use super::writer::{Shared, Writer};
use crate::watch::WatchHub;

pub(super) fn open(path: &Path, options: FileOptions) -> Result<Writer, FileError> {
    // A relative path keeps its meaning when the program changes its folder.
    let path = std::path::absolute(path).map_err(|error| FileError::io(path, &error))?;
    let disk = find_or_create(&path, &options)?;
    let began = Instant::now();
    let view = View::new();
    let opened = Engine::open(&disk, &view, options.max_resident_bytes);
    let (mut engine, loaded) = opened.map_err(|failed| failed.error)?;
    info!(path = %path.display(), keys = loaded.keys, bytes = disk.len()?, took = ?began.elapsed(),
        "state file open");
    engine.tidy(&disk, &loaded)?;
    let shared = Arc::new(Shared {
        view,
        queue: Queue::new(options.queue_capacity),
        control: Control::default(),
        readers: Readers::new(
            #[cfg(test)]
            options.faults.clone(),
        ),
        hub: WatchHub::new(),
        origin: engine.origin,
        time: Time::starting(options.clock.clone(), &options.wall, loaded.progress.time),
    });
    Ok(Writer::new(shared, disk, engine, loaded, options))
}

fn find_or_create(path: &Path, options: &FileOptions) -> Result<Disk, FileError> {
    let mut found = Disk::open(path, options)?;
    loop {
        match found {
            Found::Existing(disk) => return Ok(disk),
            Found::Created(unnamed) => {
                let filled =
                    Engine::initialise(unnamed.disk()).and_then(|engine| engine.close(path));
                if let Err(error) = filled {
                    unnamed.discard();
                    return Err(error.while_creating());
                }
                match unnamed.publish()? {
                    Some(disk) => return Ok(disk),
                    // Another process created it in between.
                    None => found = Disk::open_existing(path, options)?,
                }
            }
        }
    }
}
