//! Which context is current: a thread local that futures swap in while they are polled.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use super::Context;

thread_local! {
    static CURRENT: RefCell<Context> = const { RefCell::new(Context::empty()) };
}

/// The context of the work in hand; empty outside of every scope.
///
/// The same in asynchronous and synchronous code. Costs a reference count.
pub fn current() -> Context {
    // A thread that is being torn down has no context any more.
    CURRENT
        .try_with(|current| current.borrow().clone())
        .unwrap_or_default()
}

/// Exchanges the current context with `context`. No user code runs inside.
fn swap(context: &mut Context) {
    let _ = CURRENT.try_with(|current| std::mem::swap(&mut *current.borrow_mut(), context));
}

impl Context {
    /// Runs a future under this context. What was current before is current again whenever the
    /// future is not being polled, also after a panic and after a drop.
    pub fn scope<F: Future>(self, future: F) -> Scope<F> {
        Scope {
            context: self,
            future: Some(future),
        }
    }

    /// Makes this the current context of the thread until the guard is dropped.
    ///
    /// For synchronous code. The guard cannot be sent to another thread, so a future that held it
    /// across an await could not be spawned; use [`Context::scope`] there.
    #[must_use = "the context is left when the guard is dropped"]
    pub fn enter(self) -> EnterGuard {
        let mut outer = self;
        swap(&mut outer);
        EnterGuard {
            outer,
            _not_send: PhantomData,
        }
    }

    /// Runs synchronous code under this context.
    pub fn sync_scope<T>(self, code: impl FnOnce() -> T) -> T {
        let _guard = self.enter();
        code()
    }
}

/// Restores the outer context when dropped. See [`Context::enter`].
pub struct EnterGuard {
    outer: Context,
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
        context: Context,
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Scope<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.future.is_some() {
                let _inside = Swapped::new(this.context);
                this.future.set(None);
            }
        }
    }
}

impl<F: Future> Future for Scope<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let _inside = Swapped::new(this.context);
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
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

/// While it lives, the slot's context is current and the slot holds the outer one.
struct Swapped<'a>(&'a mut Context);

impl<'a> Swapped<'a> {
    fn new(slot: &'a mut Context) -> Self {
        swap(slot);
        Swapped(slot)
    }
}

impl Drop for Swapped<'_> {
    fn drop(&mut self) {
        swap(self.0);
    }
}
