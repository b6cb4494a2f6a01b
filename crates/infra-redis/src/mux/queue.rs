//! Requests and answers in their order, without any I/O.

use std::collections::VecDeque;
use std::task::Waker;

use tokio::time::Instant;

use super::group::{Group, ItemScript};
use crate::value::Value;

/// Calls on the way at once; more wait for room.
pub(crate) const MAX_CALLS: usize = 16 * 1024;
/// Bytes that wait to be written before further calls wait for room.
pub(crate) const MAX_BYTES: usize = 16 << 20;
/// Requests are gathered into writes of at most this size; only a larger request makes a larger
/// write.
pub(crate) const MAX_CHUNK: usize = 256 * 1024;
/// Emptied buffers that are kept, and the largest that is.
const SPARE_BUFFERS: usize = 2;
const SPARE_SIZE: usize = 512 * 1024;

/// What waits to be written, and who waits for which answer.
///
/// Servers answer in the order of the requests, so the oldest request without an answer is the
/// one that the next answer belongs to. A caller who gives up leaves a place behind that takes
/// the late answer.
///
/// Items of a script wait in a group at the end of the last chunk, until that is taken. What was
/// queued before an item goes out before it; what was queued after it may go out first, which is
/// seen by nobody: then both callers still wait, and an item whose caller has given up never leaves.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    chunks: VecDeque<Chunk>,
    spare: Vec<Vec<u8>>,
    bytes: usize,
    /// Calls without an answer, and those of them that were not handed to the socket.
    calls: usize,
    unsent: usize,
    order: VecDeque<Waits>,
    group: Group,
    places: Vec<Place>,
    free: Vec<usize>,
    /// No deadline of a waiting caller is before this.
    next_deadline: Option<Instant>,
    ended: bool,
}

/// Bytes for one write and the number of requests in them.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) bytes: Vec<u8>,
    pub(crate) requests: usize,
}

/// Who waits for an answer.
#[derive(Debug)]
enum Waits {
    One(usize),
    /// Each for an element of the list.
    Each(Box<[usize]>),
}

#[derive(Debug)]
struct Place {
    state: State,
    /// Answers still to come.
    missing: usize,
    /// The answers so far of a request with several.
    answers: Option<Vec<Value>>,
    deadline: Instant,
}

#[derive(Debug)]
enum State {
    Free,
    Waiting(Waker),
    /// Nobody waits any more.
    Abandoned,
    Done(Done),
}

/// What became of a call.
#[derive(Debug)]
pub(crate) enum Done {
    One(Value),
    Many(Vec<Value>),
    /// The connection ended, and no byte of the request had left.
    NotSent,
    /// The connection ended before the answer.
    Lost,
}

/// How many answers a request has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answers {
    One,
    Many(usize),
}

impl Queue {
    pub(crate) fn has_room(&self) -> bool {
        self.calls < MAX_CALLS && self.bytes < MAX_BYTES
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Requests that were not handed to the socket yet, and their bytes.
    pub(crate) fn unsent(&self) -> (usize, usize) {
        (self.unsent, self.bytes + self.group.size())
    }

    /// Requests that were handed to the socket and have no answer yet.
    pub(crate) fn sent(&self) -> usize {
        self.calls.saturating_sub(self.unsent)
    }

    /// Adds a request of about `size` bytes, which `encode` appends, and returns its place.
    pub(crate) fn push(
        &mut self,
        size: usize,
        answers: Answers,
        caller: (Waker, Instant),
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> usize {
        let mut chunk = self.last_chunk(size);
        let before = chunk.bytes.len();
        encode(&mut chunk.bytes);
        chunk.requests += 1;
        self.bytes += chunk.bytes.len() - before;
        self.chunks.push_back(chunk);
        let at = self.place(answers, caller);
        self.order.push_back(Waits::One(at));
        at
    }

    /// Adds an item of a script, which may go out together with those of other callers.
    pub(crate) fn push_item(
        &mut self,
        script: &'static ItemScript,
        item: &[&[u8]],
        caller: (Waker, Instant),
    ) -> usize {
        if !self.group.has_room(script, item) {
            self.seal();
        }
        let at = self.place(Answers::One, caller);
        self.group.add(script, item, at);
        at
    }

    /// Makes one command of the items that have come so far.
    fn seal(&mut self) {
        let (mut abandoned, places) = (Vec::new(), &self.places);
        self.group.retain(|at| {
            let waited_for = (places.get(at)).is_some_and(|p| !matches!(p.state, State::Abandoned));
            if !waited_for {
                abandoned.push(at);
            }
            waited_for
        });
        self.calls -= abandoned.len();
        self.unsent -= abandoned.len();
        abandoned.into_iter().for_each(|at| self.release(at));
        if self.group.is_empty() {
            return;
        }
        let mut chunk = self.chunk_with_room(self.group.size());
        let before = chunk.bytes.len();
        let each = self.group.finish(&mut chunk.bytes);
        chunk.requests += each.len();
        self.bytes += chunk.bytes.len() - before;
        self.chunks.push_back(chunk);
        self.order.push_back(Waits::Each(each));
    }

    /// Adds a large request without copying it.
    pub(crate) fn push_large(
        &mut self,
        bytes: Vec<u8>,
        answers: Answers,
        caller: (Waker, Instant),
    ) -> usize {
        self.seal();
        self.bytes += bytes.len();
        self.chunks.push_back(Chunk { bytes, requests: 1 });
        let at = self.place(answers, caller);
        self.order.push_back(Waits::One(at));
        at
    }

    /// Takes out the chunk that has room for `size` bytes, or makes one.
    fn last_chunk(&mut self, size: usize) -> Chunk {
        let full = |chunk: &Chunk| chunk.bytes.len() + size > MAX_CHUNK;
        if self.chunks.back().is_some_and(full) {
            self.seal();
        }
        self.chunk_with_room(size)
    }

    fn chunk_with_room(&mut self, size: usize) -> Chunk {
        match self.chunks.pop_back() {
            Some(chunk) if chunk.bytes.len() + size <= MAX_CHUNK => chunk,
            full => {
                self.chunks.extend(full);
                let bytes = self.spare.pop().unwrap_or_default();
                Chunk { bytes, requests: 0 }
            }
        }
    }

    fn place(&mut self, answers: Answers, (waker, deadline): (Waker, Instant)) -> usize {
        let (missing, answers) = match answers {
            Answers::One => (1, None),
            Answers::Many(count) => (count, Some(Vec::with_capacity(count))),
        };
        let earlier = self.next_deadline.is_none_or(|next| deadline < next);
        if earlier {
            self.next_deadline = Some(deadline);
        }
        self.calls += 1;
        self.unsent += 1;
        let place = Place {
            state: State::Waiting(waker),
            missing,
            answers,
            deadline,
        };
        let free = self.free.pop();
        match free.and_then(|at| Some((at, self.places.get_mut(at)?))) {
            Some((at, old)) => {
                *old = place;
                at
            }
            None => {
                self.places.push(place);
                self.places.len() - 1
            }
        }
    }

    /// The next bytes to write.
    pub(crate) fn take(&mut self) -> Option<Chunk> {
        if self.chunks.len() <= 1 {
            self.seal();
        }
        let chunk = self.chunks.pop_front()?;
        self.bytes -= chunk.bytes.len();
        self.unsent -= chunk.requests;
        Some(chunk)
    }

    /// Takes back a buffer that was written.
    pub(crate) fn recycle(&mut self, mut bytes: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS && bytes.capacity() <= SPARE_SIZE {
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    /// Gives an answer to the oldest request without one, and returns how many calls have their
    /// answers by that; `None` when nobody waits.
    pub(crate) fn answer(&mut self, answer: Value, wake: &mut Vec<Waker>) -> Option<usize> {
        match self.order.front()? {
            &Waits::One(at) => {
                let place = self.places.get_mut(at)?;
                let done = match &mut place.answers {
                    None => Done::One(answer),
                    Some(answers) => {
                        answers.push(answer);
                        place.missing = place.missing.saturating_sub(1);
                        if place.missing > 0 {
                            return Some(0);
                        }
                        Done::Many(std::mem::take(answers))
                    }
                };
                self.order.pop_front();
                self.calls -= 1;
                self.settle(at, done, wake);
                Some(1)
            }
            Waits::Each(_) => {
                let Some(Waits::Each(each)) = self.order.pop_front() else {
                    return None;
                };
                self.calls -= each.len();
                let mut answers = shares(answer, each.len());
                for &at in &each {
                    let share = answers.next().unwrap_or(Value::Nil);
                    self.settle(at, Done::One(share), wake);
                }
                Some(each.len())
            }
        }
    }

    fn settle(&mut self, at: usize, done: Done, wake: &mut Vec<Waker>) {
        let Some(place) = self.places.get_mut(at) else {
            return;
        };
        match std::mem::replace(&mut place.state, State::Done(done)) {
            State::Waiting(waker) => wake.push(waker),
            _ => self.release(at),
        }
    }

    fn release(&mut self, at: usize) {
        if let Some(place) = self.places.get_mut(at) {
            place.state = State::Free;
            place.answers = None;
            self.free.push(at);
        }
    }

    /// What became of the call at this place, which is free afterwards; `None` while it waits.
    pub(crate) fn poll(&mut self, at: usize, waker: &Waker) -> Option<Done> {
        let place = self.places.get_mut(at)?;
        match &mut place.state {
            State::Waiting(known) => {
                known.clone_from(waker);
                None
            }
            _ => match std::mem::replace(&mut place.state, State::Free) {
                State::Done(done) => {
                    self.release(at);
                    Some(done)
                }
                _ => Some(Done::Lost),
            },
        }
    }

    /// Nobody waits at this place any more.
    pub(crate) fn abandon(&mut self, at: usize) {
        let Some(place) = self.places.get_mut(at) else {
            return;
        };
        match place.state {
            State::Waiting(_) => place.state = State::Abandoned,
            State::Done(_) => self.release(at),
            State::Free | State::Abandoned => {}
        }
    }

    /// When [`Queue::wake_late`] has something to do at the earliest.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.next_deadline
    }

    /// Wakes the callers whose deadlines have passed.
    pub(crate) fn wake_late(&mut self, now: Instant, wake: &mut Vec<Waker>) {
        self.next_deadline = None;
        let waiting = self.order.iter().flat_map(Waits::places);
        let waiting = waiting.copied().chain(self.group.places());
        for place in waiting.filter_map(|at| self.places.get(at)) {
            let State::Waiting(waker) = &place.state else {
                continue;
            };
            if place.deadline <= now {
                wake.push(waker.clone());
            } else if self.next_deadline.is_none_or(|next| place.deadline < next) {
                self.next_deadline = Some(place.deadline);
            }
        }
    }

    /// The connection has ended: everybody is told, those first whose requests never left.
    pub(crate) fn end(&mut self, wake: &mut Vec<Waker>) {
        self.ended = true;
        let sent = self.sent();
        let order = std::mem::take(&mut self.order);
        let order = order.iter().flat_map(Waits::places).copied();
        let order: Vec<usize> = order.chain(self.group.places()).collect();
        for (number, at) in order.into_iter().enumerate() {
            let done = match number < sent {
                true => Done::Lost,
                false => Done::NotSent,
            };
            self.settle(at, done, wake);
        }
        self.chunks.clear();
        self.group.clear();
        (self.bytes, self.calls, self.unsent) = (0, 0, 0);
    }
}

impl Waits {
    fn places(&self) -> &[usize] {
        match self {
            Waits::One(at) => std::slice::from_ref(at),
            Waits::Each(each) => each,
        }
    }
}

/// What each of `count` callers is told: its element of the list, the number that all have in
/// common, or the error of the whole. An answer of another form is nobody's, and each is told
/// nothing.
fn shares(answer: Value, count: usize) -> Box<dyn Iterator<Item = Value>> {
    match answer {
        Value::Array(answers) if answers.len() == count => Box::new(answers.into_iter()),
        common @ (Value::Int(_) | Value::Error(_)) => Box::new(std::iter::repeat(common)),
        _ => Box::new(std::iter::empty()),
    }
}

#[cfg(test)]
mod tests;
