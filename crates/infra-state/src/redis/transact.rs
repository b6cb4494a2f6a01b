//! Compare-and-swap and transactions.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use infra_redis::redis::pipe;
use infra_redis::{Connection, Decimal, Effect, ItemScript, RedisFault, Value};

use crate::driver::{DriverError, Expiry};
use crate::redis_common::{
    Part, SWAP, SWAP_SHA1, SWAPS, TRANSACTION, TRANSACTION_SHA1, parts, reply, versions_after,
};
use crate::step::{Action, Expect, Step};
use crate::version::VersionToken;

/// Values up to this size are compared by the server's own command where it has one.
const MAX_COMPARED: usize = 1024;
/// Swaps up to this size, both values together, share a call of a script: larger ones would hold
/// up the others, and save little.
const MAX_SHARED: usize = 4 * 1024;

/// Where the commands of a call go.
pub(crate) trait Link: Sync {
    /// Sends one command given by its parts, the name first.
    fn send(
        &self,
        parts: &[&[u8]],
        effect: Effect,
        limit: Duration,
    ) -> impl Future<Output = Result<Value, RedisFault>> + Send;

    /// Sends two commands that read the same key, at once.
    fn read_both(
        &self,
        names: [&'static str; 2],
        key: &str,
        limit: Duration,
    ) -> impl Future<Output = Result<Vec<Value>, RedisFault>> + Send;

    /// Runs a script on an item together with those of other callers; `None` where that cannot be.
    fn send_item(
        &self,
        _: &'static ItemScript,
        _: &[&[u8]],
        _: Duration,
    ) -> impl Future<Output = Option<Result<Value, RedisFault>>> + Send {
        std::future::ready(None)
    }
}

impl Link for Connection {
    async fn send(
        &self,
        parts: &[&[u8]],
        effect: Effect,
        limit: Duration,
    ) -> Result<Value, RedisFault> {
        Connection::send(self, parts, effect, limit).await
    }

    async fn read_both(
        &self,
        [first, second]: [&'static str; 2],
        key: &str,
        limit: Duration,
    ) -> Result<Vec<Value>, RedisFault> {
        let mut both = pipe();
        both.cmd(first).arg(key).cmd(second).arg(key);
        self.pipeline(&both, Effect::Read, limit).await
    }

    async fn send_item(
        &self,
        script: &'static ItemScript,
        item: &[&[u8]],
        limit: Duration,
    ) -> Option<Result<Value, RedisFault>> {
        Some(Connection::send_item(self, script, item, limit).await)
    }
}

/// What is known of the server's own compare-and-swap, `SET IFEQ`. Found out by using it: version
/// numbers say little about forks and proxies.
#[derive(Debug, Default)]
pub(crate) struct Native {
    refused: AtomicBool,
}

pub(crate) async fn run(
    link: &impl Link,
    native: &Native,
    steps: &[Step<'_>],
    limit: Duration,
) -> Result<Vec<VersionToken>, DriverError> {
    if let [step] = steps
        && let Some(stored) = single(link, native, step, limit).await?
    {
        return versions_after(steps, i64::from(!stored));
    }
    let parts = parts(steps)?;
    let count = Decimal::from(steps.len() as u64);
    let numbers: Vec<_> = parts.iter().map(decimal).collect();
    let mut arguments = vec![count.as_bytes()];
    arguments.extend(steps.iter().map(|step| step.key.as_bytes()));
    for (part, number) in parts.iter().zip(&numbers) {
        arguments.push(match part {
            Part::Word(word) => word.as_bytes(),
            Part::Bytes(bytes) => bytes,
            Part::Number(_) => number.as_bytes(),
        });
    }
    let script = Script {
        text: TRANSACTION,
        sha1: TRANSACTION_SHA1,
    };
    let answer = script.run(link, &arguments, limit).await?;
    versions_after(steps, reply::integer(&answer)?)
}

fn decimal(part: &Part) -> Decimal {
    match part {
        Part::Number(number) => Decimal::from(*number),
        _ => Decimal::from(0_u64),
    }
}

/// A step that needs no general script: whether it was taken. `None` where it does need one.
async fn single(
    link: &impl Link,
    native: &Native,
    step: &Step<'_>,
    limit: Duration,
) -> Result<Option<bool>, DriverError> {
    let Action::Put { value, expiry } = step.action else {
        return Ok(None);
    };
    let put = Put {
        key: step.key.as_bytes(),
        value,
        expiry,
    };
    match step.expect {
        Expect::Version(VersionToken::Absent) => {
            let reply = put.set(link, &[b"NX"], false, limit).await?;
            Ok(Some(reply != Value::Nil))
        }
        Expect::Version(VersionToken::Content(expected)) => {
            put.swap(link, native, expected, limit).await.map(Some)
        }
        _ => Ok(None),
    }
}

struct Put<'a> {
    key: &'a [u8],
    value: &'a Bytes,
    expiry: Expiry,
}

impl Put<'_> {
    /// `SET` under a condition.
    async fn set(
        &self,
        link: &impl Link,
        condition: &[&[u8]],
        keeps: bool,
        limit: Duration,
    ) -> Result<Value, RedisFault> {
        let mut parts: Vec<&[u8]> = vec![b"SET", self.key, self.value];
        parts.extend(condition);
        let millis;
        match self.expiry {
            Expiry::Keep if keeps => parts.push(b"KEEPTTL"),
            Expiry::Keep | Expiry::Clear => {}
            Expiry::After(ttl) => {
                millis = Decimal::from(ttl.get());
                parts.extend([b"PX", millis.as_bytes()]);
            }
        }
        link.send(&parts, Effect::Write, limit).await
    }

    async fn swap(
        &self,
        link: &impl Link,
        native: &Native,
        expected: &Bytes,
        limit: Duration,
    ) -> Result<bool, DriverError> {
        let asked = Instant::now();
        let refused = &native.refused;
        if expected.len() <= MAX_COMPARED && !refused.load(Ordering::Relaxed) {
            let condition = [&b"IFEQ"[..], expected];
            match self.set(link, &condition, true, limit).await {
                // Nothing was stored: the server does not know the word.
                Err(fault) if is_unknown_syntax(&fault) => refused.store(true, Ordering::Relaxed),
                answer => return Ok(answer? != Value::Nil),
            }
        }
        let millis;
        let expiry = match self.expiry {
            Expiry::Keep => &b"keep"[..],
            Expiry::Clear => b"clear",
            Expiry::After(ttl) => {
                millis = Decimal::from(ttl.get());
                millis.as_bytes()
            }
        };
        let item = [self.key, expected, self.value, expiry];
        let left = || limit.saturating_sub(asked.elapsed());
        if expected.len() + self.value.len() <= MAX_SHARED
            && let Some(answer) = link.send_item(&SWAPS, &item, left()).await
        {
            match answer {
                // One of the keys that came together keeps the script from running.
                Err(fault) if matches!(fault.code(), Some("NOPERM" | "CROSSSLOT")) => {}
                answer => return Ok(reply::integer(&answer?)? == 0),
            }
        }
        let arguments = [b"1", self.key, expected, self.value, expiry];
        let script = Script {
            text: SWAP,
            sha1: SWAP_SHA1,
        };
        let answer = script.run(link, &arguments, left()).await?;
        Ok(reply::integer(&answer)? == 0)
    }
}

fn is_unknown_syntax(fault: &RedisFault) -> bool {
    fault.code() == Some("ERR") && fault.to_string().contains("syntax")
}

struct Script {
    text: &'static str,
    sha1: &'static str,
}

impl Script {
    /// Runs it by its digest, and sends the whole of it where the server does not know it: then
    /// nothing ran, because the server was started or its scripts were removed.
    async fn run(
        &self,
        link: &impl Link,
        arguments: &[&[u8]],
        limit: Duration,
    ) -> Result<Value, RedisFault> {
        let asked = Instant::now();
        let mut parts = vec![&b"EVALSHA"[..], self.sha1.as_bytes()];
        parts.extend(arguments);
        match link.send(&parts, Effect::Write, limit).await {
            Err(fault) if fault.code() == Some("NOSCRIPT") => {}
            answer => return answer,
        }
        let mut parts = vec![&b"EVAL"[..], self.text.as_bytes()];
        parts.extend(arguments);
        let left = limit.saturating_sub(asked.elapsed());
        link.send(&parts, Effect::Write, left).await
    }
}
