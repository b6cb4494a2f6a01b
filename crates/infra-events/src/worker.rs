//! The task of one subscription: takes one event after the other and runs the handler.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::task::coop;

use crate::event::Event;
use crate::handler::IntoHandlerResult;
use crate::patience::Patience;
use crate::queue::Finish;
use crate::reentry::Inside;
use crate::signal::Failure;
use crate::subscription::Core;

/// Runs until the subscription ends. One handler at a time, so the order is kept.
pub(crate) async fn run<H, F>(core: Arc<Core>, mut handler: H)
where
    H: FnMut(Event) -> F,
    F: Future,
    F::Output: IntoHandlerResult,
{
    let mut worker = Worker {
        core: &core,
        last: None,
        patience: Patience::default(),
    };
    while let Some(event) = worker.next().await {
        worker.last = Some(deliver(&core, &mut handler, event).await);
    }
    // The handler may hold a handle of the bus: it goes before the subscription is forgotten.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(handler)));
}

struct Worker<'a> {
    core: &'a Arc<Core>,
    /// How the last handler ended; recorded together with taking the next event.
    last: Option<Finish>,
    patience: Patience,
}

impl Worker<'_> {
    async fn next(&mut self) -> Option<Event> {
        self.patience.wait(|| !self.core.queue.looks_empty());
        poll_fn(|cx| {
            // Handlers that are always ready must not keep the thread from other tasks.
            let budget = ready!(coop::poll_proceed(cx));
            let mut report = 0;
            let next = self.core.queue.poll_take(cx, &mut self.last, &mut report);
            if report > 0 {
                self.core.report_drops(report);
            }
            if next.is_ready() {
                budget.made_progress();
            }
            next
        })
        .await
    }
}

/// Also when the task is aborted or its runtime goes away.
impl Drop for Worker<'_> {
    fn drop(&mut self) {
        self.core.queue.worker_gone(self.last.take());
        self.core.shared.router.remove(self.core);
        self.core.shared.retire(self.core);
    }
}

async fn deliver<H, F>(core: &Arc<Core>, handler: &mut H, event: Event) -> Finish
where
    H: FnMut(Event) -> F,
    F: Future,
    F::Output: IntoHandlerResult,
{
    let context = event.context();
    let called = context.clone().sync_scope(|| {
        let _inside = Inside::enter(core.clone());
        catch_unwind(AssertUnwindSafe(|| handler(event.clone())))
    });
    let ended = match called {
        Err(panic) => Err(panic_failure(panic)),
        Ok(future) => {
            let guarded = Guarded {
                core,
                future: Some(context.scope(future)),
                started: false,
            };
            match core.handler_timeout {
                None => guarded.await,
                Some(limit) => tokio::time::timeout(limit, guarded)
                    .await
                    .unwrap_or(Err(Failure::Timeout)),
            }
        }
    };
    let Err(failure) = ended else {
        return Finish::Handled;
    };
    let finish = match &failure {
        Failure::Error(_) => Finish::Failed,
        Failure::Panic(_) => Finish::Panicked,
        Failure::Timeout => Finish::TimedOut,
    };
    core.report_failure(&event, failure);
    finish
}

pin_project_lite::pin_project! {
    /// A handler's future whose panics, also while it is dropped, stay inside.
    struct Guarded<'a, F> {
        core: &'a Arc<Core>,
        #[pin]
        future: Option<F>,
        started: bool,
    }

    impl<F> PinnedDrop for Guarded<'_, F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let _ = catch_unwind(AssertUnwindSafe(|| this.future.set(None)));
        }
    }
}

impl<F> Future for Guarded<'_, F>
where
    F: Future,
    F::Output: IntoHandlerResult,
{
    type Output = Result<(), Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let _inside = Inside::enter((*this.core).clone());
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let Some(future) = this.future.as_mut().as_pin_mut() else {
                return Poll::Pending; // polled after completion: as with any fused future
            };
            let output = ready!(future.poll(cx)).into_handler_result();
            this.future.set(None);
            Poll::Ready(output)
        }));
        match polled {
            Ok(Poll::Ready(output)) => Poll::Ready(output.map_err(Failure::Error)),
            Ok(Poll::Pending) => {
                if !std::mem::replace(this.started, true) {
                    this.core.queue.started();
                }
                Poll::Pending
            }
            Err(panic) => {
                let _ = catch_unwind(AssertUnwindSafe(|| this.future.set(None)));
                Poll::Ready(Err(panic_failure(panic)))
            }
        }
    }
}

fn panic_failure(panic: Box<dyn Any + Send>) -> Failure {
    let message = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => (*message).to_owned(),
        (_, Some(message)) => message.clone(),
        _ => "no message".to_owned(),
    };
    // Dropping what was thrown runs user code once more.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
    Failure::Panic(message)
}
