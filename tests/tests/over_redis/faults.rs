//! Each fault meets every call of a store, at each level of acknowledgement: a typed error with the
//! right outcome, in time, and the same handle works again afterwards.

use std::time::Duration;

use infra_state::StateStore;
use infra_tests::proxy::CuttingProxy;
use infra_tests::servers::{RedisConfig, RedisServer, valkey_program};

use crate::operations::Bare;
use crate::table::{
    Cuts, SECOND, all_are_refused, all_at_once, all_ended_in_time, all_were_told, all_work,
    cut_in_every_place, impatient, signal, store_over, writes_are_unknown,
};
use crate::{Connection, Driver};

/// Who has a write when it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Primary,
    Replica,
    Disk,
}

/// A server with what confirms its writes.
struct Servers {
    server: RedisServer,
    replica: Option<RedisServer>,
}

impl Level {
    fn start(self, config: RedisConfig) -> Servers {
        let config = match self {
            Level::Primary => config,
            // Confirmations whose time is over are looked for every 10 ms, not every 100.
            Level::Replica => config.line("repl-diskless-sync-delay 0").line("hz 100"),
            // Older servers of the other kind cannot tell.
            Level::Disk => config.program(valkey_program()).append_only(),
        };
        let server = RedisServer::start(config);
        let replica = (self == Level::Replica).then(|| server.start_replica());
        Servers { server, replica }
    }

    fn url(self, server: &str) -> String {
        match self {
            Level::Primary => server.to_owned(),
            Level::Replica => format!("{server}/?ack=replicated:1"),
            Level::Disk => format!("{server}/?ack=fsynced"),
        }
    }
}

impl Servers {
    fn bare(&self) -> Bare {
        Bare::new(self.server.client(), "")
    }

    fn restart(&mut self) {
        self.server.restart();
        if self.replica.is_some() {
            self.server.wait_for_replica();
        }
    }
}

/// A store without an eye on the server: nothing but the calls goes over its connection.
async fn store_at(url: &str, limit: Duration) -> StateStore {
    let connection = Connection::connect(impatient(url, limit)).await.unwrap();
    store_over(Driver::over(connection), limit)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s57_every_call_survives_a_connection_cut_in_every_place_of_its_answer() {
    cut(Level::Primary).await;
}

/// Of the answer and of the confirmation behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_every_replicated_write_survives_a_connection_cut_in_every_place() {
    cut(Level::Replica).await;
}

async fn cut(level: Level) {
    let servers = level.start(RedisConfig::new());
    let proxy = CuttingProxy::start(servers.server.port());
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let store = store_at(&level.url(&url), 20 * SECOND).await;
    let cuts = Cuts {
        confirmed: level != Level::Primary,
        most: 24,
    };
    cut_in_every_place(&store, &proxy, &mut servers.bare(), cuts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s54_every_call_of_a_stopped_server_ends_at_its_deadline() {
    stopped(Level::Primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_every_call_of_a_stopped_server_ends_at_its_deadline() {
    stopped(Level::Replica).await;
    stopped(Level::Disk).await;
}

async fn stopped(level: Level) {
    let servers = level.start(RedisConfig::new());
    let server = &servers.server;
    let limit = 3 * SECOND;
    let store = store_at(&level.url(&server.url()), limit).await;
    let mut bare = servers.bare();
    let answers = all_at_once(&store, &mut bare, 0, || server.stop(), async || ()).await;
    server.cont();
    // At a higher level writes may still wait for their turn.
    all_ended_in_time(answers, limit, level == Level::Primary);
    all_work(&store, &mut bare, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s57_every_call_on_the_way_when_the_server_is_killed_is_told_so() {
    killed(Level::Primary, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_every_call_on_the_way_when_the_server_is_killed_is_told_so() {
    killed(Level::Replica, 2).await;
    killed(Level::Disk, 2).await;
}

async fn killed(level: Level, rounds: usize) {
    let mut servers = level.start(RedisConfig::new().append_only());
    let limit = 3 * SECOND;
    let store = store_at(&level.url(&servers.server.url()), limit).await;
    for round in 0..rounds {
        let pid = servers.server.pid();
        let stop = || signal("STOP", pid);
        let kill = async || {
            tokio::time::sleep(SECOND / 5).await;
            signal("KILL", pid);
        };
        let answers = all_at_once(&store, &mut servers.bare(), 100 * round, stop, kill).await;
        servers.restart();
        let mut bare = servers.bare();
        all_were_told(answers, limit, &mut bare);
        all_work(&store, &mut bare, 100 * round + 50).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s61_every_call_after_a_changed_password_is_refused_and_heals() {
    changed_password(Level::Primary, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_every_call_after_a_changed_password_is_refused_and_heals() {
    changed_password(Level::Replica, 2).await;
    changed_password(Level::Disk, 2).await;
}

async fn changed_password(level: Level, rounds: usize) {
    let rule = "bot on >secret ~* &* +@all";
    let servers = level.start(RedisConfig::new().acl_user(rule));
    let url = servers.server.url_for("bot", "secret");
    let store = store_at(&level.url(&url), 10 * SECOND).await;
    let mut bare = servers.bare();
    for round in 0..rounds {
        let change = |bare: &mut Bare| {
            bare.text(&["ACL", "SETUSER", "bot", "resetpass", ">other"]);
            bare.text(&["CLIENT", "KILL", "USER", "bot"]);
        };
        let restore = |bare: &mut Bare| {
            bare.text(&["ACL", "SETUSER", "bot", "resetpass", ">secret"]);
        };
        all_are_refused(&store, &mut bare, 100 * round, change, restore).await;
    }
}

/// The server has each write, and nobody knows more: reads go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_every_write_is_unknown_while_the_replica_is_silent_or_gone() {
    let level = Level::Replica;
    let mut servers = level.start(RedisConfig::new());
    let limit = 3 * SECOND;
    let store = store_at(&level.url(&servers.server.url()), limit).await;
    let mut bare = servers.bare();
    for (round, name) in ["STOP", "KILL"].into_iter().enumerate() {
        let replica = servers.replica.as_mut().unwrap();
        let fault = || signal(name, replica.pid());
        let answers = all_at_once(&store, &mut bare, 100 * round, fault, async || ()).await;
        writes_are_unknown(answers, limit, &mut bare, name);
        match name {
            "STOP" => replica.cont(),
            _ => replica.restart(),
        }
        servers.server.wait_for_replica();
        all_work(&store, &mut bare, 100 * round + 50).await;
    }
}
