//! Which subscriptions are wanted, and which the server has confirmed. No I/O.
//!
//! Calls change what is wanted; the supervisor asks what to request next, and reports what the
//! server said. At most one request per target is on its way, so that answers cannot be mixed up.

use std::collections::{HashMap, VecDeque};

use infra_redis::{RedisFault, SubscriberCommand};
use tokio::sync::oneshot;

use super::error::from_fault;
use crate::channel::Target;
use crate::error::Result;

/// Tells somebody that the server has confirmed, or why not.
type Reporter = oneshot::Sender<Result<()>>;

/// A request to the server about one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    Subscribe(Target),
    Unsubscribe(Target),
}

#[derive(Default)]
pub(super) struct Wanted {
    entries: HashMap<Target, Entry>,
    /// There is a server to ask. Without one nothing is noted down in `dirty`, which would grow
    /// with every attempt to subscribe during an outage.
    online: bool,
    /// Targets of which the wish and the server's state may differ.
    dirty: VecDeque<Target>,
    stopped: bool,
    drained: Vec<oneshot::Sender<()>>,
}

#[derive(Default)]
struct Entry {
    count: usize,
    server: Server,
    /// Was confirmed on a connection that broke: events may have been missed since.
    gap: bool,
    joining: Vec<Reporter>,
    leaving: Vec<Reporter>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Server {
    #[default]
    Absent,
    Subscribing,
    Present,
    Unsubscribing,
    /// The server refused; asked again from time to time.
    Refused,
}

impl Request {
    /// The command, and the word with which the server confirms it.
    pub(super) fn command(&self) -> (SubscriberCommand<'_>, &'static str) {
        use SubscriberCommand::*;
        match self {
            Request::Subscribe(Target::Channel(name)) => (Subscribe(name), "subscribe"),
            Request::Subscribe(Target::Pattern(text)) => (PatternSubscribe(text), "psubscribe"),
            Request::Unsubscribe(Target::Channel(name)) => (Unsubscribe(name), "unsubscribe"),
            Request::Unsubscribe(Target::Pattern(text)) => {
                (PatternUnsubscribe(text), "punsubscribe")
            }
        }
    }

    pub(super) fn target(&self) -> &Target {
        match self {
            Request::Subscribe(target) | Request::Unsubscribe(target) => target,
        }
    }
}

impl Wanted {
    /// One more subscription wants this target. Answers when the server has confirmed.
    pub(super) fn join(&mut self, target: &Target) -> oneshot::Receiver<Result<()>> {
        let (reporter, answer) = oneshot::channel();
        if self.stopped {
            return answer; // the reporter is dropped: closed
        }
        let entry = self.entries.entry(target.clone()).or_default();
        entry.count += 1;
        if entry.server == Server::Present {
            let _ = reporter.send(Ok(()));
            return answer;
        }
        entry.joining.push(reporter);
        if entry.server == Server::Refused {
            entry.server = Server::Absent;
        }
        self.mark(target);
        answer
    }

    /// One subscription wants this target no more. Answers when the server has confirmed that it
    /// sends nothing more, or at once while others want it or there is no connection.
    pub(super) fn leave(&mut self, target: &Target) -> oneshot::Receiver<Result<()>> {
        let (reporter, answer) = oneshot::channel();
        let Some(entry) = self.entries.get_mut(target) else {
            let _ = reporter.send(Ok(()));
            return answer;
        };
        entry.count = entry.count.saturating_sub(1);
        entry.joining.retain(|reporter| !reporter.is_closed());
        match entry.server {
            _ if entry.count > 0 => drop(reporter.send(Ok(()))),
            Server::Absent | Server::Refused => {
                let _ = reporter.send(Ok(()));
                self.remove(target);
            }
            _ => {
                entry.leaving.push(reporter);
                self.mark(target);
            }
        }
        answer
    }

    /// Nothing is wanted any more. Answers when the server has confirmed that of everything.
    pub(super) fn stop(&mut self) -> oneshot::Receiver<()> {
        self.stopped = true;
        let (reporter, answer) = oneshot::channel();
        self.drained.push(reporter);
        for entry in self.entries.values_mut() {
            entry.count = 0;
            entry.joining.clear();
        }
        let idle = |entry: &Entry| matches!(entry.server, Server::Absent | Server::Refused);
        self.entries.retain(|_, entry| !idle(entry));
        self.dirty.extend(self.entries.keys().cloned());
        self.note_if_drained();
        answer
    }

    /// What to ask of the server next.
    pub(super) fn next_request(&mut self) -> Option<Request> {
        while let Some(target) = self.dirty.pop_front() {
            let Some(entry) = self.entries.get_mut(&target) else {
                continue;
            };
            match (entry.count, entry.server) {
                (1.., Server::Absent) => {
                    entry.server = Server::Subscribing;
                    return Some(Request::Subscribe(target));
                }
                (0, Server::Present) => {
                    entry.server = Server::Unsubscribing;
                    return Some(Request::Unsubscribe(target));
                }
                _ => {} // as wished, or under way: looked at again when that is answered
            }
        }
        None
    }

    /// The server has done what was asked. True when a gap in this target's events ends here.
    pub(super) fn confirmed(&mut self, request: &Request) -> bool {
        let target = request.target();
        let Some(entry) = self.entries.get_mut(target) else {
            return false;
        };
        let mut gap = false;
        let reporters = match request {
            Request::Subscribe(_) => {
                entry.server = Server::Present;
                gap = std::mem::take(&mut entry.gap);
                std::mem::take(&mut entry.joining)
            }
            Request::Unsubscribe(_) => {
                entry.server = Server::Absent;
                std::mem::take(&mut entry.leaving)
            }
        };
        for reporter in reporters {
            let _ = reporter.send(Ok(()));
        }
        self.look_again(target);
        gap
    }

    /// The server has refused. True when nobody was told, because it was confirmed before.
    pub(super) fn refused(&mut self, request: &Request, fault: &RedisFault) -> bool {
        let target = request.target();
        let Some(entry) = self.entries.get_mut(target) else {
            return false;
        };
        entry.server = Server::Refused;
        let waiting = std::mem::take(&mut entry.joining);
        let untold = waiting.is_empty() && entry.count > 0;
        for reporter in waiting {
            let _ = reporter.send(Err(from_fault(fault.clone(), "subscribe")));
        }
        if entry.count == 0 {
            self.remove(target);
        }
        untold
    }

    /// Refused targets are to be asked for again.
    pub(super) fn retry_refused(&mut self) {
        for (target, entry) in &mut self.entries {
            if entry.server == Server::Refused {
                entry.server = Server::Absent;
                self.dirty.push_back(target.clone());
            }
        }
    }

    /// There is a connection, to a server that knows nothing yet.
    pub(super) fn connected(&mut self) {
        self.online = true;
        self.dirty = self.entries.keys().cloned().collect();
    }

    /// The connection broke: the server has forgotten everything.
    pub(super) fn disconnected(&mut self) {
        self.online = false;
        self.dirty.clear();
        for entry in self.entries.values_mut() {
            entry.gap |= entry.server == Server::Present;
            entry.server = Server::Absent;
            for reporter in entry.leaving.drain(..) {
                let _ = reporter.send(Ok(()));
            }
        }
        self.entries.retain(|_, entry| entry.count > 0);
        self.note_if_drained();
    }

    /// Tells everyone who waits for a confirmation that there will be none for this reason.
    pub(super) fn fail_joining(&mut self, reason: impl Fn() -> crate::Error) {
        for entry in self.entries.values_mut() {
            for reporter in entry.joining.drain(..) {
                let _ = reporter.send(Err(reason()));
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many targets had been confirmed on a connection that broke, and are not again.
    pub(super) fn gaps(&self) -> usize {
        let open = |entry: &&Entry| entry.gap && entry.server != Server::Refused;
        self.entries.values().filter(open).count()
    }

    fn mark(&mut self, target: &Target) {
        if self.online {
            self.dirty.push_back(target.clone());
        }
    }

    /// After an answer: is the target as wished now?
    fn look_again(&mut self, target: &Target) {
        let Some(entry) = self.entries.get(target) else {
            return;
        };
        match (entry.count, entry.server) {
            (0, Server::Absent) => self.remove(target),
            (0, Server::Present) | (1.., Server::Absent) => self.mark(target),
            _ => {}
        }
    }

    fn remove(&mut self, target: &Target) {
        if let Some(entry) = self.entries.remove(target) {
            for reporter in entry.leaving {
                let _ = reporter.send(Ok(()));
            }
        }
        self.note_if_drained();
    }

    fn note_if_drained(&mut self) {
        if self.stopped && self.entries.is_empty() {
            for reporter in self.drained.drain(..) {
                let _ = reporter.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Target {
        Target::Channel(name.into())
    }

    fn online() -> Wanted {
        let mut wanted = Wanted::default();
        wanted.connected();
        wanted
    }

    fn confirm_all(wanted: &mut Wanted) -> Vec<Request> {
        let requests: Vec<_> = std::iter::from_fn(|| wanted.next_request()).collect();
        for request in &requests {
            wanted.confirmed(request);
        }
        requests
    }

    #[test]
    fn a_target_is_asked_for_once_and_given_up_with_its_last_subscription() {
        let mut wanted = online();
        let mut first = wanted.join(&channel("a"));
        let mut second = wanted.join(&channel("a"));
        assert!(first.try_recv().is_err());
        assert_eq!(confirm_all(&mut wanted), [Request::Subscribe(channel("a"))]);
        assert!(first.try_recv().unwrap().is_ok() && second.try_recv().unwrap().is_ok());
        assert!(wanted.leave(&channel("a")).try_recv().unwrap().is_ok());
        let mut left = wanted.leave(&channel("a"));
        assert!(left.try_recv().is_err());
        assert_eq!(
            confirm_all(&mut wanted),
            [Request::Unsubscribe(channel("a"))]
        );
        assert!(left.try_recv().unwrap().is_ok());
        assert!(wanted.is_empty());
    }

    #[test]
    fn a_wish_that_changes_while_a_request_is_on_its_way_wins() {
        let mut wanted = online();
        let _first = wanted.join(&channel("a"));
        let request = wanted.next_request().unwrap();
        let mut left = wanted.leave(&channel("a"));
        assert_eq!(wanted.next_request(), None);
        wanted.confirmed(&request);
        let request = wanted.next_request().unwrap();
        assert_eq!(request, Request::Unsubscribe(channel("a")));
        let mut again = wanted.join(&channel("a"));
        wanted.confirmed(&request);
        assert!(left.try_recv().unwrap().is_ok());
        assert!(again.try_recv().is_err());
        assert_eq!(confirm_all(&mut wanted), [Request::Subscribe(channel("a"))]);
        assert!(again.try_recv().unwrap().is_ok());
    }

    #[test]
    fn after_a_break_everything_wanted_is_asked_for_and_only_the_confirmed_has_a_gap() {
        let mut wanted = online();
        let _old = wanted.join(&channel("old"));
        confirm_all(&mut wanted);
        let mut new = wanted.join(&channel("new"));
        wanted.next_request();
        wanted.disconnected();
        assert_eq!(wanted.gaps(), 1);
        assert_eq!(wanted.next_request(), None);
        wanted.connected();
        let requests: Vec<_> = std::iter::from_fn(|| wanted.next_request()).collect();
        assert_eq!(requests.len(), 2);
        for request in requests {
            let gap = wanted.confirmed(&request);
            assert_eq!(gap, *request.target() == channel("old"));
        }
        assert!(new.try_recv().unwrap().is_ok());
        assert_eq!(wanted.gaps(), 0);
    }

    #[test]
    fn what_is_given_up_during_an_outage_is_not_asked_for_again() {
        let mut wanted = online();
        let _join = wanted.join(&channel("a"));
        confirm_all(&mut wanted);
        wanted.disconnected();
        assert!(wanted.leave(&channel("a")).try_recv().unwrap().is_ok());
        assert!(wanted.is_empty() && wanted.next_request().is_none());
    }

    #[test]
    fn attempts_during_an_outage_leave_nothing_behind() {
        let mut wanted = Wanted::default();
        for _ in 0..1000 {
            drop(wanted.join(&channel("a")));
            assert!(wanted.leave(&channel("a")).try_recv().unwrap().is_ok());
        }
        assert!(wanted.is_empty() && wanted.dirty.is_empty());
    }

    #[test]
    fn stopping_answers_when_the_server_has_let_go_of_everything() {
        let mut wanted = online();
        let _join = wanted.join(&channel("a"));
        confirm_all(&mut wanted);
        let mut stopped = wanted.stop();
        assert!(stopped.try_recv().is_err());
        assert_eq!(
            confirm_all(&mut wanted),
            [Request::Unsubscribe(channel("a"))]
        );
        assert!(stopped.try_recv().is_ok());
        assert!(wanted.stop().try_recv().is_ok());
        assert!(wanted.join(&channel("b")).try_recv().is_err() && wanted.is_empty());
    }
}
