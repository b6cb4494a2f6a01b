//! Listening to the store itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use infra_core::context;
use infra_state::{Change, ChangeStream, ErrorKind, Requirement};
use tracing::{debug, info, warn};

use crate::shared::Core;

/// Waits between attempts to listen again: the first and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Begins to listen, where the store can tell what changes; when it cannot be reached, in the
/// background.
pub(crate) async fn track(core: &Arc<Core>) -> infra_state::Result<()> {
    let Some(backend) = &core.backend else {
        return Ok(());
    };
    if !backend.store.capabilities().can(Requirement::Watch) {
        debug!(cache = core.name, "the store cannot tell what changes");
        return Ok(());
    }
    let stream = match backend.store.changes("").await {
        Ok(stream) => Some(stream),
        Err(error) if error.kind() == ErrorKind::Closed => return Err(error),
        Err(error) => {
            warn!(cache = core.name, %error, "cache_tracking_unavailable");
            None
        }
    };
    core.tracking.store(stream.is_some(), Ordering::Relaxed);
    context::spawn_detached(follow(core.clone(), stream));
    Ok(())
}

async fn follow(core: Arc<Core>, stream: Option<ChangeStream>) {
    tokio::select! {
        biased;
        () = core.closed() => {}
        () = listen(&core, stream) => {}
    }
    core.tracking.store(false, Ordering::Relaxed);
}

/// Until the store is closed.
async fn listen(core: &Core, mut stream: Option<ChangeStream>) {
    loop {
        if let Some(mut changes) = stream.take() {
            while let Some(change) = changes.next().await {
                apply(core, change);
            }
            core.tracking.store(false, Ordering::Relaxed);
            core.distrust();
        }
        let Some(changes) = begin_again(core).await else {
            return;
        };
        // What was read while nobody listened may be outdated.
        core.distrust();
        core.tracking.store(true, Ordering::Relaxed);
        info!(cache = core.name, "cache_tracking_restored");
        stream = Some(changes);
    }
}

fn apply(core: &Core, change: Change) {
    match change {
        Change::Key(key) => {
            core.counters.invalidations.add();
            core.near.forget(&key);
        }
        Change::Gap(reason) => {
            warn!(cache = core.name, reason, "cache_flushed");
            core.distrust();
        }
        other => {
            debug!(?other, "a change of unknown kind");
            core.distrust();
        }
    }
}

async fn begin_again(core: &Core) -> Option<ChangeStream> {
    let backend = core.backend.as_ref()?;
    let mut pause = BACKOFF.0;
    loop {
        match backend.store.changes("").await {
            Ok(stream) => return Some(stream),
            Err(error) if error.kind() == ErrorKind::Closed => return None,
            Err(error) => debug!(cache = core.name, %error, "cache_tracking_still_unavailable"),
        }
        // Real time: this waits for a server.
        tokio::time::sleep(core.random.around(pause, 0.3)).await;
        pause = (pause * 2).min(BACKOFF.1);
    }
}
