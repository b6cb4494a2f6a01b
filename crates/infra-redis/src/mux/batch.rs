//! Batches of writes with one request for confirmation behind them.

use std::future::{poll_fn, ready};
use std::pin::pin;
use std::task::Poll;

use tokio::time::Instant;

use super::{Answered, Answers, Mux, Request};
use crate::acked::{Batch, InFlight};
use crate::acknowledge::{Waited, waited};
use crate::encode;
use crate::fault::{RedisFault, line_fault};
use crate::value::Value;

/// Encoded commands of one caller.
pub(crate) struct Packed {
    bytes: Vec<u8>,
    answers: Answers,
}

impl Request<'_> {
    /// The same, for longer than its caller's call.
    pub(crate) fn into_packed(self) -> Packed {
        match self {
            Request::Packed(bytes, answers) => Packed {
                bytes: bytes.to_vec(),
                answers,
            },
            Request::Item(script, item) => {
                let mut bytes = Vec::new();
                script.write_one(&mut bytes, item);
                Packed {
                    bytes,
                    answers: Answers::One,
                }
            }
            Request::Parts(parts) => {
                let mut bytes = Vec::new();
                encode::write_parts(&mut bytes, parts);
                Packed {
                    bytes,
                    answers: Answers::One,
                }
            }
        }
    }
}

impl Batch for Mux {
    type Call = Packed;
    type Answers = Answered;

    fn size(call: &Packed) -> usize {
        call.bytes.len()
    }

    async fn send_batch(
        &self,
        calls: &[&Packed],
        wait: Vec<String>,
        deadline: Instant,
    ) -> Result<(Vec<Answered>, InFlight), RedisFault> {
        let mut bytes = Vec::with_capacity(calls.iter().map(|call| call.bytes.len()).sum());
        let mut count = 0;
        for call in calls {
            bytes.extend_from_slice(&call.bytes);
            count += match call.answers {
                Answers::One => 1,
                Answers::Many(count) => count,
            };
        }
        let connection = self.clone();
        let mut waiting: InFlight =
            Box::pin(async move { connection.send_wait(wait, deadline).await });
        // Requests are queued when they are first asked for, so one stands behind the other; unless
        // they had to wait for room.
        let mut back_to_back = self.has_room();
        let mut sent = pin!(self.send(Request::Packed(&bytes, Answers::Many(count)), deadline));
        let answered = poll_fn(|cx| {
            let answered = sent.as_mut().poll(cx);
            if back_to_back && let Poll::Ready(waited) = waiting.as_mut().poll(cx) {
                waiting = Box::pin(ready(waited));
                back_to_back = false;
            }
            answered
        });
        let answered = answered.await.map_err(|unanswered| unanswered.fault())?;
        let Answered::Many(values) = answered else {
            return Err(RedisFault::protocol("one answer to several commands"));
        };
        let mut values = values.into_iter();
        let mut answers = Vec::with_capacity(calls.len());
        for call in calls {
            answers.push(match call.answers {
                Answers::One => Answered::One(values.next().unwrap_or(Value::Nil)),
                Answers::Many(count) => Answered::Many(values.by_ref().take(count).collect()),
            });
        }
        Ok((answers, waiting))
    }

    async fn send_wait(&self, wait: Vec<String>, deadline: Instant) -> Result<Waited, RedisFault> {
        let mut bytes = Vec::new();
        write_texts(&mut bytes, &wait);
        let request = Request::Packed(&bytes, Answers::One);
        match self.send(request, deadline).await {
            Ok(Answered::One(value)) => Ok(waited(value)),
            Ok(Answered::Many(_)) => Err(RedisFault::protocol("several answers to one command")),
            Err(unanswered) => Err(unanswered.fault()),
        }
    }

    fn refusal(answers: &Answered) -> Option<RedisFault> {
        let answers = match answers {
            Answered::One(answer) => std::slice::from_ref(answer),
            Answered::Many(answers) => answers,
        };
        // Where a transaction was refused, the last answer says only that it was.
        match answers.last() {
            Some(Value::Error(_)) => answers.iter().find_map(|answer| match answer {
                Value::Error(line) => Some(line_fault(line)),
                _ => None,
            }),
            _ => None,
        }
    }
}

fn write_texts(out: &mut Vec<u8>, texts: &[String]) {
    let parts: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
    encode::write_parts(out, &parts);
}
