//! How a breaker learns that a call waits on this side: in the queue of a layer further in.
//!
//! Any layers may be between the two, so neither can ask the other. Whoever queues tells it to the
//! thread that polls, and whoever wants to know listens while it polls. What runs as a task of its
//! own, such as a call behind tower's `Buffer`, is not heard.

use std::cell::Cell;

/// What was told while a call was polled.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told {
    waits: bool,
    begun: bool,
}

thread_local!(static TOLD: Cell<Told> = const { Cell::new(Told { waits: false, begun: false }) });

impl Told {
    /// The call, or a part of it, is in a queue.
    pub(super) const WAITS: Told = Told {
        waits: true,
        begun: false,
    };

    /// All that was begun is in a queue, so nothing has been sent.
    pub(super) fn only_waits(self) -> bool {
        self.waits && !self.begun
    }

    /// What a call tells that has left its own queue, and told this in its turn.
    pub(super) fn after_queue(self) -> Told {
        Told {
            begun: !self.only_waits(),
            ..self
        }
    }
}

/// Tells it to whoever polls this.
pub(super) fn tell(told: Told) {
    let before = TOLD.get();
    TOLD.set(Told {
        waits: before.waits | told.waits,
        begun: before.begun | told.begun,
    });
}

/// Listens while it polls.
pub(super) fn listen<T>(poll: impl FnOnce() -> T) -> (T, Told) {
    let _before = Before(TOLD.replace(Told::default()));
    let polled = poll();
    (polled, TOLD.get())
}

/// What was told before; told again at the end, also that of a panic.
struct Before(Told);

impl Drop for Before {
    fn drop(&mut self) {
        TOLD.set(self.0);
    }
}
