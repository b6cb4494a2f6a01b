//! The thread that sends: batch after batch, each within its time limit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing_core::Level;

use super::http::{Answer, Client};
use super::queue::{Queue, Record, Signal};
use super::wire::{PartialSuccess, bytes, nested};
use crate::fields::Stored;
use crate::lines::{Lines, message};

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

pub(crate) struct Exporter {
    pub(crate) queue: Arc<Queue>,
    pub(crate) client: Client,
    pub(crate) timeout: Duration,
    /// The encoded `Resource`: what this process is.
    pub(crate) resource: Vec<u8>,
    /// Trouble is told here, as lines that are never sent to the collector.
    pub(crate) lines: Arc<Lines>,
}

impl Exporter {
    /// Runs until the queue is closed.
    pub(crate) fn run(mut self) {
        super::mute_this_thread();
        while let Some(batch) = self.queue.take() {
            self.send(Signal::Logs, &batch.logs);
            self.send(Signal::Spans, &batch.spans);
            self.queue.settle(&batch);
        }
    }

    fn send(&mut self, signal: Signal, records: &[Record]) {
        let count = records.len() as u64;
        if count == 0 {
            return;
        }
        let body = request(&self.resource, records);
        let sent = self.deliver(path(signal), &body);
        let changed = self.queue.set_failing(sent.is_err());
        match sent {
            Ok(partial) => {
                let rejected = partial.rejected.min(count);
                self.queue.count_sent(count - rejected, rejected);
                if changed {
                    self.tell(Level::INFO, "telemetry is sent again", "");
                }
                if rejected > 0 {
                    let text = "the collector did not take all telemetry";
                    self.tell(Level::WARN, text, &partial.message);
                }
            }
            Err(reason) => {
                self.queue.count_failed(count);
                if changed {
                    self.tell(Level::WARN, "telemetry cannot be sent", &reason);
                }
            }
        }
    }

    /// Repeats what may be repeated (<https://opentelemetry.io/docs/specs/otlp/#otlphttp-response>)
    /// until the time is over. A repetition may deliver twice; a collector expects that.
    fn deliver(&mut self, path: &str, body: &[u8]) -> Result<PartialSuccess, String> {
        let until = Instant::now() + self.timeout;
        let mut wait = FIRST_WAIT;
        loop {
            let (reason, asked) = match self.client.post(path, body, until) {
                Ok(answer) if (200..300).contains(&answer.status) => {
                    return Ok(PartialSuccess::read(&answer.body));
                }
                Ok(answer) => (refusal(&answer)?, answer.retry_after),
                Err(error) => (error.to_string(), None),
            };
            // Half is fixed, half by chance: many processes must not come back all at once.
            let pause = asked.unwrap_or(wait / 2 + wait.mul_f64(chance() / 2.0));
            if Instant::now() + pause >= until || !self.queue.pause(pause) {
                return Err(reason);
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    fn tell(&self, level: Level, text: &str, reason: &str) {
        let mut fields = message(text);
        if !reason.is_empty() {
            fields.push_text("reason", reason);
        }
        fields.push("lost", Stored::U64(self.queue.stats().lost()));
        self.lines.tell(level, &fields, 0);
    }
}

/// The reason when the request may be repeated.
///
/// # Errors
/// The reason when it may not.
fn refusal(answer: &Answer) -> Result<String, String> {
    let reason = format!("the collector answered with status {}", answer.status);
    match answer.status {
        429 | 502 | 503 | 504 => Ok(reason),
        _ => Err(reason),
    }
}

const fn path(signal: Signal) -> &'static str {
    match signal {
        Signal::Logs => "/v1/logs",
        Signal::Spans => "/v1/traces",
    }
}

/// An `ExportLogsServiceRequest` or `ExportTraceServiceRequest`: their numbers are the same.
fn request(resource: &[u8], records: &[Record]) -> Vec<u8> {
    let mut scopes: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in records {
        scopes.entry(&record.scope).or_default().push(record);
    }
    let mut request = Vec::new();
    nested(&mut request, 1, |out| {
        bytes(out, 1, resource);
        for (scope, records) in scopes {
            nested(out, 2, |out| {
                nested(out, 1, |out| bytes(out, 1, scope.as_bytes()));
                records
                    .iter()
                    .for_each(|record| bytes(out, 2, &record.bytes));
            });
        }
    });
    request
}

/// A number from 0 to 1.
fn chance() -> f64 {
    f64::from(super::span::now() as u32 % 1000) / 1000.0
}

/// Should the thread ever end too early, what waits is counted as lost, and nobody waits for it.
impl Drop for Exporter {
    fn drop(&mut self) {
        self.queue.close();
        while let Some(batch) = self.queue.take() {
            self.queue
                .count_failed((batch.logs.len() + batch.spans.len()) as u64);
            self.queue.settle(&batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_specification_allows_is_repeated() {
        for status in [400, 401, 404, 413, 500, 501, 301] {
            let answer = Answer {
                status,
                ..Answer::default()
            };
            assert!(refusal(&answer).is_err(), "{status}");
        }
        for status in [429, 502, 503, 504] {
            let answer = Answer {
                status,
                ..Answer::default()
            };
            assert!(refusal(&answer).is_ok(), "{status}");
        }
    }
}
