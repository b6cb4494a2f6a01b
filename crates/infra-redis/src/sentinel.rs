//! Servers that sentinels watch over: where the master is, and when another one takes its place.

use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

use crate::connect_error::{ConnectError, ConnectFault};
use crate::options::RedisOptions;
use crate::subscriber::{Push, Subscriber, SubscriberCommand};
use crate::together::{self, STAGGER};
use crate::url::{Address, UrlKind};
use crate::value::Value;
use crate::wire::Wire;

/// The channel on which a sentinel says that a failover has ended.
const SWITCHED: &str = "+switch-master";

/// Connects to the server that the sentinels name, and makes sure that it is a master.
pub(crate) async fn connect(
    options: &RedisOptions,
    deadline: Instant,
) -> Result<Wire, ConnectError> {
    let address = master(options, deadline).await?;
    let server = options.for_announced(&address);
    let url = server.url();
    let mut wire = Wire::connect_to(&server, deadline).await?;
    let role = match timeout_at(deadline, wire.ask(&[b"ROLE"])).await {
        Ok(Ok(role)) => role,
        Ok(Err(error)) => return Err(ConnectError::tcp(url, error)),
        Err(_) => {
            let step = "the question about its role";
            return Err(ConnectError::timeout(url, step, options.connect_timeout));
        }
    };
    let is_master = match &role {
        Value::Array(parts) => parts.first() == Some(&Value::Bytes(b"master".to_vec())),
        // Whoever may not ask, or asks a server that does not know the word, takes it for one.
        _ => true,
    };
    if is_master {
        return Ok(wire);
    }
    let message = "the sentinels name it as the master, which it is not (yet)".to_owned();
    Err(ConnectError::new(ConnectFault::NotReady, url, message))
}

/// The master's address, from the first sentinel that knows it.
pub(crate) async fn master(
    options: &RedisOptions,
    deadline: Instant,
) -> Result<Address, ConnectError> {
    let mut sentinels = options.url().hosts().to_vec();
    // One that is wrong for long must not be asked first each time.
    fastrand::shuffle(&mut sentinels);
    let ask = |address: Address| ask(options, address, deadline);
    let answer = together::first(sentinels, STAGGER, ask).await;
    answer.unwrap_or_else(|| {
        let message = "the URL names no sentinel".to_owned();
        Err(ConnectError::new(
            ConnectFault::Config,
            options.url(),
            message,
        ))
    })
}

async fn ask(
    options: &RedisOptions,
    address: Address,
    deadline: Instant,
) -> Result<Address, ConnectError> {
    let sentinel = options.for_url(options.url().for_sentinel(address.clone()));
    let service = options.url().service();
    let url = sentinel.url();
    let failed = |fault, message| ConnectError::new(fault, url, message);
    let mut wire = Wire::connect_to(&sentinel, deadline).await?;
    let question = [
        &b"SENTINEL"[..],
        b"GET-MASTER-ADDR-BY-NAME",
        service.as_bytes(),
    ];
    match timeout_at(deadline, wire.ask(&question)).await {
        Ok(Ok(Value::Array(parts))) => address_in(&parts).ok_or_else(|| {
            let message = "the sentinel's answer is no address".to_owned();
            failed(ConnectFault::Protocol, message)
        }),
        Ok(Ok(Value::Error(line))) => {
            let line = crate::fault::without_arguments(&line);
            let message = match line.contains("unknown command") {
                true => "this is no sentinel: do the ports of the URL belong to servers?",
                false => line,
            };
            Err(failed(ConnectFault::Config, message.to_owned()))
        }
        Ok(Ok(_)) => {
            let message = format!("the sentinel knows no service `{service}`");
            Err(failed(ConnectFault::Config, message))
        }
        Ok(Err(error)) => Err(ConnectError::tcp(url, error)),
        Err(_) => {
            let step = "the question about the master";
            Err(ConnectError::timeout(url, step, options.connect_timeout))
        }
    }
}

fn address_in(parts: &[Value]) -> Option<Address> {
    let [Value::Bytes(host), Value::Bytes(port)] = parts else {
        return None;
    };
    Some(Address {
        host: std::str::from_utf8(host).ok()?.to_owned(),
        port: std::str::from_utf8(port).ok()?.parse().ok()?,
    })
}

/// Returns when the sentinels name another master; never where there are none.
pub(crate) async fn switched(options: &RedisOptions) {
    if options.url().kind() != UrlKind::Sentinel {
        return std::future::pending().await;
    }
    let mut known = None;
    for attempt in 0_u32.. {
        let mut sentinels = options.url().hosts().to_vec();
        fastrand::shuffle(&mut sentinels);
        if let Some(sentinel) = sentinels.pop() {
            match listen(options, sentinel, &mut known).await {
                Ok(()) => return,
                Err(error) => debug!(backend = "redis", %error, "a sentinel is not heard any more"),
            }
        }
        sleep(options.backoff.delay(attempt)).await;
    }
}

/// Returns when the sentinel names another master than the known one; and fails with it.
async fn listen(
    options: &RedisOptions,
    sentinel: Address,
    known: &mut Option<Address>,
) -> Result<(), ConnectError> {
    let sentinel = options.for_url(options.url().for_sentinel(sentinel));
    let broken = |error| ConnectError::tcp(sentinel.url(), error);
    let mut subscriber = Subscriber::connect(&sentinel).await?;
    subscriber.queue(SubscriberCommand::Subscribe(SWITCHED));
    subscriber.flush().await.map_err(broken)?;
    loop {
        // What was said before the subscription is asked for, and from time to time what may have
        // got lost.
        let deadline = Instant::now() + options.connect_timeout;
        let now = master(options, deadline).await?;
        if *known.get_or_insert_with(|| now.clone()) != now {
            return Ok(());
        }
        let until = Instant::now() + options.ping_interval;
        let heard = timeout_at(until, said(&mut subscriber, options.url().service())).await;
        match heard {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => return Err(broken(error)),
            Err(_) => {}
        }
    }
}

/// Returns when the sentinel says that this service has another master.
async fn said(subscriber: &mut Subscriber, service: &str) -> std::io::Result<()> {
    loop {
        if let Push::Message { payload, .. } = subscriber.next().await? {
            let name = payload.split(|byte| *byte == b' ').next();
            if name == Some(service.as_bytes()) {
                return Ok(());
            }
        }
    }
}
