//! Which context is current: a thread local that futures swap in while they are polled.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use super::Context;

thread_local! {
    static CURRENT: RefCell<Current> = const {
        RefCell::new(Current { context: Context::empty(), observer: None })
    };
}

/// What goes along with the work in hand.
struct Current {
    context: Context,
    /// Unlike the context it is never left behind: an empty context is still observed.
    observer: Option<NonZeroU64>,
}

impl Current {
    /// The context, seen by whoever observes the code that makes it current.
    fn new(context: Context) -> Self {
        Current {
            context,
            observer: observer(),
        }
    }
}

/// The context of the work in hand; empty outside of every scope.
///
/// The same in asynchronous and synchronous code. Costs a reference count.
pub fn current() -> Context {
    // A thread that is being torn down has no context any more.
    CURRENT
        .try_with(|current| current.borrow().context.clone())
        .unwrap_or_default()
}

/// The number given to [`observe`] by whoever started the work in hand.
pub fn observer() -> Option<NonZeroU64> {
    let observer = CURRENT.try_with(|current| current.borrow().observer);
    observer.ok().flatten()
}

/// Marks all work that this thread starts until the guard is dropped, through every scope and
/// spawn of this module, [`spawn_detached`](super::spawn_detached) included. So a test can tell
/// its own log lines from those of the tests beside it.
#[must_use = "the work is marked until the guard is dropped"]
pub fn observe(number: NonZeroU64) -> ObserveGuard {
    ObserveGuard {
        outer: set_observer(Some(number)),
        _not_send: PhantomData,
    }
}

fn set_observer(observer: Option<NonZeroU64>) -> Option<NonZeroU64> {
    let set = |current: &RefCell<Current>| {
        std::mem::replace(&mut current.borrow_mut().observer, observer)
    };
    CURRENT.try_with(set).ok().flatten()
}

/// Restores the outer mark when dropped. See [`observe`].
#[derive(Debug)]
pub struct ObserveGuard {
    outer: Option<NonZeroU64>,
    _not_send: PhantomData<*const ()>,
}

impl Drop for ObserveGuard {
    fn drop(&mut self) {
        set_observer(self.outer);
    }
}

/// Exchanges what is current with `other`. No user code runs inside.
fn swap(other: &mut Current) {
    let _ = CURRENT.try_with(|current| std::mem::swap(&mut *current.borrow_mut(), other));
}

/// Makes code for another thread that runs under the context that is current now:
/// `std::thread::spawn(carry(|| ...))`.
pub fn carry<T, F: FnOnce() -> T>(code: F) -> impl FnOnce() -> T + use<T, F> {
    let carried = Current::new(current());
    move || {
        let _guard = carried.enter();
        code()
    }
}

impl Current {
    fn enter(mut self) -> EnterGuard {
        swap(&mut self);
        EnterGuard {
            outer: self,
            _not_send: PhantomData,
        }
    }
}

impl Context {
    /// Runs a future under this context. What was current before is current again whenever the
    /// future is not being polled, also after a panic and after a drop.
    pub fn scope<F: Future>(self, future: F) -> Scope<F> {
        Scope {
            current: Current::new(self),
            future: Some(future),
        }
    }

    /// Makes this the current context of the thread until the guard is dropped.
    ///
    /// For synchronous code. The guard cannot be sent to another thread, so a future that held it
    /// across an await could not be spawned; use [`Context::scope`] there.
    #[must_use = "the context is left when the guard is dropped"]
    pub fn enter(self) -> EnterGuard {
        Current::new(self).enter()
    }

    /// Runs synchronous code under this context.
    pub fn sync_scope<T>(self, code: impl FnOnce() -> T) -> T {
        let _guard = self.enter();
        code()
    }
}

/// Restores the outer context when dropped. See [`Context::enter`].
pub struct EnterGuard {
    outer: Current,
    _not_send: PhantomData<*const ()>,
}

impl Drop for EnterGuard {
    fn drop(&mut self) {
        swap(&mut self.outer);
    }
}

impl fmt::Debug for EnterGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnterGuard")
    }
}

pin_project_lite::pin_project! {
    /// A future that is polled, and dropped, under a context. See [`Context::scope`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct Scope<F> {
        current: Current,
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Scope<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.future.is_some() {
                let _inside = Swapped::new(this.current);
                this.future.set(None);
            }
        }
    }
}

impl<F: Future> Future for Scope<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let _inside = Swapped::new(this.current);
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            return Poll::Pending; // polled after completion: as with any fused future
        };
        let output = std::task::ready!(future.poll(cx));
        this.future.set(None);
        Poll::Ready(output)
    }
}

impl<F> fmt::Debug for Scope<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("context", &self.current.context)
            .finish_non_exhaustive()
    }
}

/// While it lives, what the slot held is current and the slot holds the outer one.
struct Swapped<'a>(&'a mut Current);

impl<'a> Swapped<'a> {
    fn new(slot: &'a mut Current) -> Self {
        swap(slot);
        Swapped(slot)
    }
}

impl Drop for Swapped<'_> {
    fn drop(&mut self) {
        swap(self.0);
    }
}
