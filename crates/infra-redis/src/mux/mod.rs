//! One connection that many callers share: the requests of all that wait go into one write, the
//! answers come back in order.
//!
//! A call costs one lock to queue it and one to fetch its answer. There is no timer per call, no
//! channel and no allocation but the answer's own: one task ([`driver`]) moves the bytes, wakes
//! the callers, and keeps one timer for the earliest deadline of all.

mod batch;
mod driver;
mod group;
mod queue;

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

pub(crate) use driver::Driver;
pub use group::ItemScript;
pub(crate) use queue::Answers;
use queue::{Done, MAX_CHUNK, Queue};

use crate::client::{Client, Live};
use crate::connect_error::ConnectError;
use crate::encode;
use crate::fault::{FaultKind, RedisFault, line_fault};
use crate::options::RedisOptions;
use crate::value::Value;
use crate::wire::Wire;

/// Longer than any limit for an answer to a PING.
const LONGEST_PING: Duration = Duration::from_secs(24 * 60 * 60);
/// Requests from this size on are encoded outside of the lock.
const LARGE: usize = 16 * 1024;

/// Hands requests over. The connection ends with the last clone.
#[derive(Clone)]
pub(crate) struct Mux {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
}

/// Between the callers and the driver.
struct Shared {
    state: Mutex<Locked>,
    /// One of those who wait for room may try again.
    room: Notify,
    waiting_for_room: AtomicUsize,
}

#[derive(Default)]
struct Locked {
    queue: Queue,
    /// Set while the driver has nothing to do that it knows of.
    driver: Option<Waker>,
    /// How many requests must wait before the driver is woken for them.
    wake_at: usize,
    closing: bool,
}

/// A request in a form that can be sent again.
#[derive(Clone, Copy)]
pub(crate) enum Request<'a> {
    /// The parts of one command.
    Parts(&'a [&'a [u8]]),
    /// A key, and the arguments of a script that takes several of them.
    Item(&'static ItemScript, &'a [&'a [u8]]),
    /// Encoded commands.
    Packed(&'a [u8], Answers),
}

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// The connection ended, and no byte of the request had left.
    NotSent,
    /// The connection ended before the answer.
    Lost,
    /// The deadline passed after the request was queued.
    Late,
    /// The deadline passed while there was no room for the request.
    NoRoom,
}

/// The answers to a request.
#[derive(Debug)]
pub(crate) enum Answered {
    One(Value),
    Many(Vec<Value>),
}

impl Mux {
    /// A connection over `wire`, whose bytes the driver moves.
    pub(crate) fn new(wire: Wire) -> (Self, Driver) {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            room: Notify::new(),
            waiting_for_room: AtomicUsize::new(0),
        });
        let driver = Driver::new(shared.clone(), wire);
        let handle = Arc::new(Handle { shared });
        (Mux { handle }, driver)
    }

    /// Sends a request and waits for its answers. Cancel safe in that nobody else is harmed.
    pub(crate) async fn send(
        &self,
        request: Request<'_>,
        deadline: Instant,
    ) -> Result<Answered, Unanswered> {
        loop {
            let call = Call {
                shared: &self.handle.shared,
                request,
                deadline,
                place: None,
                urgent: false,
            };
            match call.await {
                Some(result) => return result,
                None => self.handle.shared.wait_for_room(deadline).await?,
            }
        }
    }

    /// Whether a request is queued at once.
    fn has_room(&self) -> bool {
        self.handle.shared.lock().queue.has_room()
    }

    /// [`Mux::send`] of one command that goes out even when there is no room for others.
    pub(crate) async fn send_urgent(
        &self,
        parts: &[&[u8]],
        deadline: Instant,
    ) -> Result<Answered, Unanswered> {
        let call = Call {
            shared: &self.handle.shared,
            request: Request::Parts(parts),
            deadline,
            place: None,
            urgent: true,
        };
        call.await.unwrap_or(Err(Unanswered::NoRoom))
    }
}

impl Client for Mux {
    async fn dial(options: &RedisOptions) -> Result<Live<Self>, ConnectError> {
        let (connection, driver) = Mux::new(Wire::connect(options).await?);
        let at_end = driver.at_end();
        Ok(Live {
            connection,
            driver: Box::pin(driver.run()),
            at_end: Box::new(move |tell| {
                let _ = at_end.set(tell);
            }),
        })
    }

    async fn answers(&self) -> bool {
        // The supervisor has a limit of its own.
        let deadline = Instant::now() + LONGEST_PING;
        self.send_urgent(&[b"PING"], deadline).await.is_ok()
    }

    async fn role(&self, deadline: Instant) -> Result<Value, RedisFault> {
        match self.send(Request::Parts(&[b"ROLE"]), deadline).await {
            Ok(Answered::One(Value::Error(line))) => Err(line_fault(&line)),
            Ok(Answered::One(value)) => Ok(value),
            Ok(Answered::Many(_)) => Err(RedisFault::protocol("several answers to one command")),
            Err(unanswered) => Err(unanswered.fault()),
        }
    }
}

impl Unanswered {
    pub(crate) fn fault(self) -> RedisFault {
        let late = "no answer before the deadline";
        match self {
            Unanswered::NotSent => RedisFault::unavailable(None),
            Unanswered::Lost => {
                let message = "the connection broke before the answer came";
                RedisFault::new(FaultKind::ConnectionLost, message)
            }
            Unanswered::Late => RedisFault::new(FaultKind::Timeout, late),
            Unanswered::NoRoom => RedisFault::no_room(),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Locked> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn wait_for_room(&self, deadline: Instant) -> Result<(), Unanswered> {
        self.waiting_for_room.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(&self.waiting_for_room);
        let there_is_room = async {
            loop {
                let told = self.room.notified();
                let mut told = std::pin::pin!(told);
                // From here on no word is missed.
                told.as_mut().enable();
                {
                    let locked = self.lock();
                    if locked.queue.has_room() || locked.queue.is_ended() {
                        return;
                    }
                }
                told.await;
            }
        };
        timeout_at(deadline, there_is_room)
            .await
            .map_err(|_| Unanswered::NoRoom)
    }

    /// Lets as many of those who wait for room try again as there may be new places.
    fn tell_of_room(&self, places: usize) {
        for _ in 0..places.min(self.waiting_for_room.load(Ordering::SeqCst)) {
            self.room.notify_one();
        }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut locked = self.shared.lock();
        locked.closing = true;
        let driver = locked.driver.take();
        drop(locked);
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

/// A request on its way; dropped early, it leaves a place behind for the late answer.
struct Call<'a> {
    shared: &'a Shared,
    request: Request<'a>,
    deadline: Instant,
    place: Option<usize>,
    urgent: bool,
}

impl Call<'_> {
    /// Queues the request; `None` where there is no room.
    fn queue(&self, waker: &Waker) -> Option<Result<usize, Unanswered>> {
        let caller = (waker.clone(), self.deadline);
        let large = self.encoded_if_large();
        let mut locked = self.shared.lock();
        let Locked {
            queue,
            driver,
            wake_at,
            ..
        } = &mut *locked;
        if queue.is_ended() {
            return Some(Err(Unanswered::NotSent));
        }
        if !self.urgent && !queue.has_room() {
            return None;
        }
        let place = match (large, self.request) {
            (Some((bytes, answers)), _) if bytes.len() > MAX_CHUNK / 2 => {
                queue.push_large(bytes, answers, caller)
            }
            (Some((bytes, answers)), _) => queue.push(bytes.len(), answers, caller, |out| {
                out.extend_from_slice(&bytes)
            }),
            (None, Request::Parts(parts)) => {
                let size = encode::encoded_len(parts);
                queue.push(size, Answers::One, caller, |out| {
                    encode::write_parts(out, parts);
                })
            }
            (None, Request::Item(script, item)) => queue.push_item(script, item, caller),
            (None, Request::Packed(bytes, answers)) => {
                queue.push(bytes.len(), answers, caller, |out| {
                    out.extend_from_slice(bytes)
                })
            }
        };
        let enough = queue.unsent().0 >= *wake_at || queue.next_deadline() == Some(self.deadline);
        let driver = if enough { driver.take() } else { None };
        drop(locked);
        if let Some(driver) = driver {
            driver.wake();
        }
        Some(Ok(place))
    }

    fn encoded_if_large(&self) -> Option<(Vec<u8>, Answers)> {
        match self.request {
            Request::Parts(parts) if encode::encoded_len(parts) >= LARGE => {
                let mut bytes = Vec::new();
                encode::write_parts(&mut bytes, parts);
                Some((bytes, Answers::One))
            }
            Request::Packed(bytes, answers) if bytes.len() >= LARGE => {
                Some((bytes.to_vec(), answers))
            }
            _ => None,
        }
    }
}

impl Future for Call<'_> {
    /// `None` where there was no room.
    type Output = Option<Result<Answered, Unanswered>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(place) = self.place else {
            return match self.queue(cx.waker()) {
                Some(Ok(place)) => {
                    self.place = Some(place);
                    Poll::Pending
                }
                Some(Err(unanswered)) => Poll::Ready(Some(Err(unanswered))),
                None => Poll::Ready(None),
            };
        };
        let done = self.shared.lock().queue.poll(place, cx.waker());
        let result = match done {
            Some(Done::One(value)) => Ok(Answered::One(value)),
            Some(Done::Many(values)) => Ok(Answered::Many(values)),
            Some(Done::NotSent) => Err(Unanswered::NotSent),
            Some(Done::Lost) => Err(Unanswered::Lost),
            None if Instant::now() < self.deadline => return Poll::Pending,
            // Dropped, it leaves its place behind.
            None => return Poll::Ready(Some(Err(Unanswered::Late))),
        };
        self.place = None;
        Poll::Ready(Some(result))
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.shared.lock().queue.abandon(place);
        }
    }
}
