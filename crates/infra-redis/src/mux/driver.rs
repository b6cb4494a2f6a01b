//! The task that moves the bytes of a shared connection.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Shared;
use super::queue::Chunk;
use crate::client::Tell;
use crate::reply::{ReplyParser, invalid};
use crate::stream::RedisStream;
use crate::value::Value;
use crate::wire::Wire;

/// How much is asked of the socket at once.
const READ_SIZE: usize = 64 * 1024;
/// A read buffer that grew past this for a large answer is given back.
const READ_BUFFER: usize = 1 << 20;
/// From this size on a write is worth a system call of its own.
const WORTH_A_WRITE: usize = 32 * 1024;
/// While at least so many callers are expected back and answers are on their way, fewer requests
/// than [`ENOUGH`] are held back until the next answers.
const CROWD: usize = 16;
/// So many requests are worth a system call, whatever their size.
const ENOUGH: usize = 64;

/// Moves the bytes until the connection ends or nobody holds it any more.
///
/// **Writes are gathered.** Callers who were just given their answers are likely to ask again at
/// once. So before a small write the driver lets the other tasks run, as long as that brings more
/// requests. Where many are expected and the server has other work of ours, a few requests wait
/// for the next answers instead, which are on their way. Many callers then share one write and
/// one system call. Nobody waits for a timer; a single caller, and a few, never wait at all.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    stream: RedisStream,
    unread: BytesMut,
    parser: ReplyParser,
    writing: Chunk,
    written: usize,
    unflushed: bool,
    /// Callers who were given an answer and may be about to ask again.
    expected: usize,
    /// Requests that had come when the other tasks were last let run.
    gathered: usize,
    /// Whether a few requests may be held back until the next answers come.
    holds: bool,
    alarm: Option<Pin<Box<Sleep>>>,
    answers: Vec<Value>,
    wake: Vec<Waker>,
    at_end: Arc<OnceLock<Tell>>,
}

/// What the driver does when neither side of the socket moves.
enum Rest {
    WakeMe,
    /// Requests came between the last look and the rest.
    MoreToWrite,
    /// Nobody holds the connection any more.
    Abandoned,
}

enum Step {
    Moved,
    /// The other tasks are to run first; this one is woken again.
    Yielded,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, wire: Wire) -> Self {
        let (stream, unread) = wire.into_parts();
        Driver {
            shared,
            stream,
            unread,
            parser: ReplyParser::default(),
            writing: Chunk::default(),
            written: 0,
            unflushed: false,
            expected: 0,
            gathered: 0,
            holds: true,
            alarm: None,
            answers: Vec::new(),
            wake: Vec::new(),
            at_end: Arc::default(),
        }
    }

    /// Takes what is called when the connection has ended, however it ends, before anybody who
    /// waits for an answer is told: otherwise a caller who was told could make the next call on
    /// the same dead connection.
    pub(super) fn at_end(&self) -> Arc<OnceLock<Tell>> {
        self.at_end.clone()
    }

    /// Runs until the connection ends.
    pub(super) async fn run(mut self) {
        if let Err(error) = poll_fn(|cx| self.poll(cx)).await {
            tracing::debug!(backend = "redis", %error, "the connection ended");
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let wrote = self.poll_write(cx)?;
            let read = self.poll_read(cx)?;
            if matches!(wrote, Poll::Ready(Step::Yielded)) {
                return Poll::Pending;
            }
            if wrote.is_pending() && read.is_pending() {
                match self.rest(cx) {
                    Rest::WakeMe => return Poll::Pending,
                    Rest::MoreToWrite => {}
                    Rest::Abandoned => return Poll::Ready(Ok(())),
                }
            }
        }
    }

    /// Tells late callers, sets the timer, and asks to be woken for the next request.
    fn rest(&mut self, cx: &mut Context<'_>) -> Rest {
        let mut locked = self.shared.lock();
        if locked.closing {
            return Rest::Abandoned;
        }
        let unsent = locked.queue.unsent().0;
        if self.writing.bytes.is_empty() && unsent >= locked.wake_at {
            return Rest::MoreToWrite;
        }
        locked.driver = Some(cx.waker().clone());
        if let Some(deadline) = locked.queue.next_deadline() {
            let now = Instant::now();
            if deadline <= now {
                locked.queue.wake_late(now, &mut self.wake);
            }
        }
        let next = locked.queue.next_deadline();
        drop(locked);
        self.wake_callers();
        self.set_alarm(cx, next);
        Rest::WakeMe
    }

    fn set_alarm(&mut self, cx: &mut Context<'_>, next: Option<Instant>) {
        let Some(next) = next else { return };
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(sleep_until(next)));
        if alarm.deadline() != next {
            alarm.as_mut().reset(next);
        }
        if alarm.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Step>> {
        if self.writing.bytes.is_empty() {
            let mut locked = self.shared.lock();
            locked.wake_at = 1;
            let (requests, bytes) = locked.queue.unsent();
            if requests > 0 && requests < self.expected.min(ENOUGH) && bytes < WORTH_A_WRITE {
                if self.holds && self.expected >= CROWD && locked.queue.sent() > 0 {
                    locked.wake_at = self.expected.min(ENOUGH);
                    return Poll::Pending;
                }
                if requests > self.gathered {
                    self.gathered = requests;
                    drop(locked);
                    cx.waker().wake_by_ref();
                    return Poll::Ready(Ok(Step::Yielded));
                }
                // Some of them are not coming back soon.
                self.expected /= 2;
            }
            let Some(chunk) = locked.queue.take() else {
                drop(locked);
                return self.poll_flush(cx);
            };
            self.holds = true;
            self.expected = self.expected.saturating_sub(chunk.requests);
            (self.writing, self.gathered, self.written) = (chunk, 0, 0);
        }
        let rest = self.writing.bytes.get(self.written..).unwrap_or_default();
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.unflushed = true;
        self.written += written;
        if self.written >= self.writing.bytes.len() {
            let bytes = std::mem::take(&mut self.writing).bytes;
            self.shared.lock().queue.recycle(bytes);
        }
        Poll::Ready(Ok(Step::Moved))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Step>> {
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Pending
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unread.reserve(READ_SIZE);
        let read = ready!(pin!(self.stream.read_buf(&mut self.unread)).poll(cx))?;
        if read == 0 {
            let ended = io::ErrorKind::UnexpectedEof;
            return Poll::Ready(Err(io::Error::new(ended, "the server closed it")));
        }
        self.give_answers()?;
        if self.unread.is_empty() && self.unread.capacity() > READ_BUFFER {
            self.unread = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    fn give_answers(&mut self) -> io::Result<()> {
        while let Some(answer) = self.parser.next(&mut self.unread)? {
            // What nobody asked for, on a connection that asked for no such messages.
            if !matches!(answer, Value::Push(_)) {
                self.answers.push(answer);
            }
        }
        if self.answers.is_empty() {
            return Ok(());
        }
        let mut locked = self.shared.lock();
        let (mut asked, mut count) = (true, 0);
        for answer in self.answers.drain(..) {
            let answered = locked.queue.answer(answer, &mut self.wake);
            asked &= answered.is_some();
            count += answered.unwrap_or_default();
        }
        drop(locked);
        self.expected += count;
        self.holds = false;
        self.wake_callers();
        self.shared.tell_of_room(count);
        match asked {
            true => Ok(()),
            false => Err(invalid("an answer to no request")),
        }
    }

    fn wake_callers(&mut self) {
        self.wake.drain(..).for_each(Waker::wake);
    }
}

impl Drop for Driver {
    /// Also when the runtime ends: nobody may wait for a connection that is gone.
    fn drop(&mut self) {
        if let Some(tell) = self.at_end.get() {
            tell();
        }
        self.shared.lock().queue.end(&mut self.wake);
        self.wake_callers();
        self.shared.room.notify_waiters();
    }
}
