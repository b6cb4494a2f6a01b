//! Batches of writes with one request for confirmation behind them.

use tokio::time::{Instant, timeout_at};

use super::client::FredClient;
use super::command::{FredCommand, FredReply};
use crate::acked::{Batch, InFlight};
use crate::acknowledge::{Waited, waited};
use crate::fault::{FaultKind, RedisFault};
use crate::value::Value;

impl Batch for FredClient {
    type Call = Vec<FredCommand>;
    type Answers = Vec<Result<FredReply, RedisFault>>;

    fn size(call: &Vec<FredCommand>) -> usize {
        call.iter().map(FredCommand::size).sum()
    }

    async fn send_batch(
        &self,
        calls: &[&Vec<FredCommand>],
        wait: Vec<String>,
        deadline: Instant,
    ) -> Result<(Vec<Self::Answers>, InFlight), RedisFault> {
        let all: Vec<FredCommand> = calls.iter().flat_map(|call| call.iter().cloned()).collect();
        let answered = timeout_at(deadline, self.send_all(&all)).await;
        let mut replies = answered.unwrap_or_else(|_| Err(late()))?.into_iter();
        let take = |call: &&Vec<FredCommand>| replies.by_ref().take(call.len()).collect();
        let answers = calls.iter().map(take).collect();
        // Only now: nothing says in which order the library sends what it is given at once.
        let client = self.clone();
        let waiting = Box::pin(async move { client.send_wait(wait, deadline).await });
        Ok((answers, waiting))
    }

    async fn send_wait(&self, wait: Vec<String>, deadline: Instant) -> Result<Waited, RedisFault> {
        let wait = command(&wait);
        let answered = timeout_at(deadline, self.send(&wait)).await;
        of_wait(answered.unwrap_or_else(|_| Err(late())))
    }

    fn refusal(answers: &Self::Answers) -> Option<RedisFault> {
        // Where a transaction was refused, the last answer says only that it was.
        match answers.last() {
            Some(Err(_)) => answers.iter().find_map(|answer| answer.clone().err()),
            _ => None,
        }
    }
}

fn command(wait: &[String]) -> FredCommand {
    let mut words = wait.iter();
    let name = match words.next().map(String::as_str) {
        Some("WAITAOF") => "WAITAOF",
        _ => "WAIT",
    };
    words.fold(FredCommand::new(name), |command, word| command.text(word))
}

/// An answer of the server about the waiting is no error of the call.
fn of_wait(reply: Result<FredReply, RedisFault>) -> Result<Waited, RedisFault> {
    match reply {
        Ok(reply) => Ok(waited(Value::from(reply))),
        Err(fault) if fault.code().is_some() => Ok(Err(fault.to_string())),
        Err(fault) => Err(fault),
    }
}

fn late() -> RedisFault {
    RedisFault::new(FaultKind::Timeout, "no answer before the deadline")
}
