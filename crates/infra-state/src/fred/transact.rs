//! Compare-and-swap and transactions.

use std::time::{Duration, Instant};

use infra_redis::{Effect, FredCommand, FredReply, RedisFault};

use super::{FredDriver, set_command};
use crate::driver::{DriverError, Expiry};
use crate::redis_common::{Part, TRANSACTION, TRANSACTION_SHA1, parts, reply, versions_after};
use crate::step::{Action, Expect, Step};
use crate::version::VersionToken;

pub(super) async fn run(
    driver: &FredDriver,
    steps: &[Step<'_>],
    limit: Duration,
) -> Result<Vec<VersionToken>, DriverError> {
    if let [step] = steps
        && let Some(create) = creation(step)
    {
        let reply = driver.write(create, limit).await?;
        return versions_after(steps, i64::from(reply == FredReply::Nil));
    }
    let parts = parts(steps)?;
    let asked = Instant::now();
    let known = script("EVALSHA", TRANSACTION_SHA1, steps, &parts);
    let connection = &driver.connection;
    let reply = match connection.command(&known, Effect::Write, limit).await {
        // Nothing ran: the server was started or emptied since it last saw the script.
        Err(fault) if is_unknown(&fault) => {
            let whole = script("EVAL", TRANSACTION, steps, &parts);
            let left = limit.saturating_sub(asked.elapsed());
            connection.command(&whole, Effect::Write, left).await?
        }
        reply => reply?,
    };
    versions_after(steps, reply::integer(&reply)?)
}

/// The command for a step that stores a value where none is: no script needed.
fn creation(step: &Step<'_>) -> Option<FredCommand> {
    match (step.expect, step.action) {
        (Expect::Version(VersionToken::Absent), Action::Put { value, expiry }) => {
            let expiry = match expiry {
                Expiry::Keep => Expiry::Clear,
                other => other,
            };
            Some(set_command(step.key, value.clone(), expiry, true))
        }
        _ => None,
    }
}

fn is_unknown(fault: &RedisFault) -> bool {
    fault.code() == Some("NOSCRIPT")
}

fn script(
    name: &'static str,
    script: &'static str,
    steps: &[Step<'_>],
    parts: &[Part],
) -> FredCommand {
    let count = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    let mut command = FredCommand::new(name).word(script).number(count);
    for step in steps {
        command = command.text(step.key);
    }
    for part in parts {
        command = match part {
            Part::Word(word) => command.word(word),
            Part::Bytes(bytes) => command.bytes(bytes.clone()),
            Part::Number(number) => command.number(*number),
        };
    }
    command
}
