//! The task that keeps the connection for subscriptions alive: connects when something is wanted,
//! restores for ever, asks the server for what is wanted, and hands in what arrives.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use infra_core::{Class, Classify};
use infra_redis::{
    Attempts, ConnectError, ConnectFault, Push, RedisOptions, RedisUrl, Reply, Subscriber,
    SubscriberCommand,
};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::config::Pace;
use super::wanted::Request;
use super::{Desk, error};
use crate::channel::Target;
use crate::envelope;
use crate::intake::Intake;
use crate::signal::Signal;

/// How much slower attempts follow each other when only a person can remove the cause.
const PERMANENT_FACTOR: u32 = 10;

pub(super) struct Supervisor {
    pub(super) desk: Arc<Desk>,
    pub(super) intake: Intake,
    pub(super) options: RedisOptions,
    pub(super) pace: Pace,
}

impl Supervisor {
    /// Runs until it is aborted.
    pub(super) async fn run(self) {
        let mut lost = None;
        let mut attempts = Attempts::default();
        loop {
            while self.desk.lock().wanted.is_empty() {
                self.desk.changed.notified().await;
            }
            if let Some(attempt) = attempts.in_vain().checked_sub(1) {
                sleep(self.pace.backoff.delay(attempt)).await;
            }
            let connection = self.connect(attempts).await;
            let since = Instant::now();
            self.intake.signal(Signal::Connected);
            let reason = Session::new(&self, connection, lost).run().await;
            attempts.ended(since.elapsed(), true);
            self.desk.disconnected(&reason);
            let url = self.options.url();
            tracing::warn!(backend = "redis", %url, reason, "event subscriptions lost, reconnecting");
            self.intake.signal(Signal::Disconnected { reason });
            lost = Some(Instant::now());
        }
    }

    /// Tries until it works.
    async fn connect(&self, mut attempts: Attempts) -> Subscriber {
        let mut refused: Option<ConnectFault> = None;
        loop {
            let attempt = attempts.in_vain();
            let error = match Subscriber::connect(&self.options).await {
                Ok(connection) => {
                    self.desk.connected();
                    return connection;
                }
                Err(error) => error,
            };
            let permanent = (error.class() == Class::Permanent).then_some(error.fault());
            if permanent.is_some() && permanent != refused {
                tracing::warn!(backend = "redis", %error, "redis refuses subscriptions: this needs a person");
            } else {
                tracing::debug!(backend = "redis", %error, attempt, "cannot connect for subscriptions yet");
            }
            refused = permanent;
            self.desk.cannot_connect(&error);
            let backoff = match refused {
                Some(_) => self.pace.backoff.slower(PERMANENT_FACTOR),
                None => self.pace.backoff,
            };
            attempts.failed();
            sleep(backoff.delay(attempt)).await;
        }
    }
}

impl Desk {
    fn connected(&self) {
        let mut state = self.lock();
        state.connected = true;
        state.trouble = None;
        state.wanted.connected();
    }

    fn disconnected(&self, reason: &str) {
        let mut state = self.lock();
        state.connected = false;
        state.trouble = Some(reason.to_owned());
        state.wanted.disconnected();
    }

    /// Whoever waits for a confirmation is told at once where only a person can help.
    fn cannot_connect(&self, error: &ConnectError) {
        let mut state = self.lock();
        state.trouble = Some(error.to_string());
        if error.class() == Class::Permanent {
            let reason = || error::from_connect(error.clone(), "subscribe");
            state.wanted.fail_joining(reason);
        }
    }
}

/// One connection, from the login to its end.
struct Session<'a> {
    desk: &'a Desk,
    intake: &'a Intake,
    url: &'a RedisUrl,
    pace: &'a Pace,
    connection: Subscriber,
    /// What was asked and not answered yet, oldest first; the server answers in this order.
    in_flight: VecDeque<(Asked, Instant)>,
    heard: Instant,
    timer: Pin<Box<Sleep>>,
    retry_refused: Option<Instant>,
    /// Targets of an earlier connection that are confirmed again.
    gaps: Vec<Target>,
    /// When the earlier connection was lost, until everything is restored.
    lost: Option<Instant>,
    /// The channel of the last message: the next one is often on the same.
    channel: Arc<str>,
}

enum Asked {
    Request(Request),
    Ping,
}

impl<'a> Session<'a> {
    fn new(own: &'a Supervisor, connection: Subscriber, lost: Option<Instant>) -> Self {
        Session {
            desk: &own.desk,
            intake: &own.intake,
            url: own.options.url(),
            pace: &own.pace,
            connection,
            in_flight: VecDeque::new(),
            heard: Instant::now(),
            timer: Box::pin(sleep(Duration::ZERO)),
            retry_refused: None,
            gaps: Vec::new(),
            lost,
            channel: Arc::from(""),
        }
    }

    /// Returns why the connection ended.
    async fn run(mut self) -> String {
        self.set_timer();
        loop {
            self.note_restored();
            if let Err(reason) = self.step().await {
                return reason;
            }
        }
    }

    async fn step(&mut self) -> Result<(), String> {
        self.ask_for_what_is_wanted().await?;
        tokio::select! {
            push = self.connection.next() => {
                let push = push.map_err(|error| error.to_string())?;
                let mut arrivals = Arrivals {
                    desk: self.desk,
                    intake: self.intake,
                    in_flight: &mut self.in_flight,
                    gaps: &mut self.gaps,
                    refused: false,
                    channel: &mut self.channel,
                };
                arrivals.take(push).await?;
                while let Some(push) = self
                    .connection
                    .next_buffered()
                    .map_err(|error| error.to_string())?
                {
                    arrivals.take(push).await?;
                }
                if arrivals.refused {
                    self.retry_refused = Some(Instant::now() + self.refusal_pause());
                    self.set_timer();
                }
                self.heard = Instant::now();
            }
            () = self.desk.changed.notified() => {}
            () = self.timer.as_mut() => self.check()?,
        }
        Ok(())
    }

    async fn ask_for_what_is_wanted(&mut self) -> Result<(), String> {
        let now = Instant::now();
        loop {
            let Some(request) = self.desk.lock().wanted.next_request() else {
                break;
            };
            self.connection.queue(request.command().0);
            self.in_flight.push_back((Asked::Request(request), now));
            self.set_timer();
        }
        if self.connection.is_flushed() {
            return Ok(());
        }
        // A server that reads nothing is as dead as one that says nothing.
        match timeout(self.pace.answer_timeout, self.connection.flush()).await {
            Ok(flushed) => flushed.map_err(|error| error.to_string()),
            Err(_) => Err("the server does not read".to_owned()),
        }
    }

    /// When to look whether the other end is alive, or to ask again for what was refused.
    fn next_check(&self) -> Instant {
        let alive = match self.in_flight.front() {
            Some((_, asked)) => {
                let since = self.heard.max(*asked);
                since + self.pace.answer_timeout
            }
            None => self.heard + self.pace.ping_interval,
        };
        self.retry_refused.map_or(alive, |at| at.min(alive))
    }

    /// The timer is set when something is asked and when it has fired, not with every arrival: it
    /// may fire early, and then finds nothing to do.
    fn set_timer(&mut self) {
        let at = self.next_check();
        self.timer.as_mut().reset(at);
    }

    /// Called when the timer has fired.
    fn check(&mut self) -> Result<(), String> {
        let now = Instant::now();
        let outcome = if self.next_check() <= now {
            self.check_due(now)
        } else {
            Ok(())
        };
        self.set_timer();
        outcome
    }

    fn check_due(&mut self, now: Instant) -> Result<(), String> {
        if self.retry_refused.is_some_and(|at| at <= now) {
            self.retry_refused = None;
            self.desk.lock().wanted.retry_refused();
            return Ok(());
        }
        if !self.in_flight.is_empty() {
            return Err("the server does not answer".to_owned());
        }
        self.connection.queue(SubscriberCommand::Ping);
        self.in_flight.push_back((Asked::Ping, now));
        Ok(())
    }

    fn refusal_pause(&self) -> Duration {
        self.pace.backoff.slower(PERMANENT_FACTOR).delay(u32::MAX)
    }

    /// Once everything that an earlier connection had is confirmed again: says so, and where
    /// events may have been missed.
    fn note_restored(&mut self) {
        if self.lost.is_none() && self.gaps.is_empty() {
            return;
        }
        if self.desk.lock().wanted.gaps() > 0 {
            return;
        }
        if let Some(lost) = self.lost.take() {
            tracing::info!(
                backend = "redis",
                url = %self.url,
                downtime_ms = lost.elapsed().as_millis() as u64,
                targets = self.gaps.len(),
                "event subscriptions restored; events in between are lost"
            );
            self.intake.signal(Signal::Resubscribed {
                targets: self.gaps.len(),
            });
        }
        for target in self.gaps.drain(..) {
            self.intake.signal(Signal::Gap { target, lost: None });
        }
    }
}

/// Takes in what the server sends.
struct Arrivals<'a> {
    desk: &'a Desk,
    intake: &'a Intake,
    in_flight: &'a mut VecDeque<(Asked, Instant)>,
    gaps: &'a mut Vec<Target>,
    refused: bool,
    channel: &'a mut Arc<str>,
}

impl Arrivals<'_> {
    async fn take(&mut self, push: Push<'_>) -> Result<(), String> {
        let reply = match push {
            Push::Message {
                pattern,
                channel,
                payload,
            } => {
                let channel = self.shared_channel(channel);
                let event = envelope::decode(&channel, payload);
                // Never waits for room: no subscription on this backend blocks.
                let _ = match pattern {
                    None => self.intake.deliver_by_channel(&event).await,
                    Some(pattern) => {
                        let pattern = String::from_utf8_lossy(pattern);
                        self.intake.deliver_by_pattern(&pattern, &event).await
                    }
                };
                return Ok(());
            }
            Push::Reply(reply) => reply,
        };
        let Some((asked, _)) = self.in_flight.pop_front() else {
            return Err("the server answered what was not asked".to_owned());
        };
        match (asked, reply) {
            (Asked::Request(request), Reply::Confirmed(word, name)) => {
                let expected = (request.command().1.as_bytes(), request.target().as_str());
                if (word, name) != (expected.0, expected.1.as_bytes()) {
                    return Err("the server confirmed what was not asked".to_owned());
                }
                if self.desk.lock().wanted.confirmed(&request) {
                    self.gaps.push(request.target().clone());
                }
            }
            (Asked::Request(request), Reply::Refused(fault)) => {
                if self.desk.lock().wanted.refused(&request, &fault) {
                    let target = request.target().as_str();
                    tracing::warn!(backend = "redis", target, error = %fault, "resubscription refused, trying again");
                }
                self.refused = true;
            }
            // A refusal of the PING is a sign of life too.
            (Asked::Ping, Reply::Pong | Reply::Refused(_)) => {}
            _ => return Err("the server's answers are out of order".to_owned()),
        }
        Ok(())
    }

    fn shared_channel(&mut self, channel: &[u8]) -> Arc<str> {
        if self.channel.as_bytes() != channel {
            *self.channel = String::from_utf8_lossy(channel).into();
        }
        self.channel.clone()
    }
}
