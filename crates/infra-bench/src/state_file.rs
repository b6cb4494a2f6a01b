//! The file driver: beside itself with one caller, beside SQLite, beside a bare log; its reads, its
//! slowest commits, and how soon it is back after kill -9.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use infra_core::context;
use infra_state::{FileOptions, StateOptions, StateStore, StoreOptions, create_state_store};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, oneshot};

use crate::harness::{Effort, Goal, Row, per_second, turns};
use crate::load::{in_tasks, must};

const AREA: &str = "state-file";
const KEYS: usize = 10_000;
const CALLERS: usize = 64;
/// The hidden word that makes this program a writer that is killed.
pub(crate) const FILL: &str = "--fill-state-file";
/// Connections of the larger pool.
const POOL: usize = 8;

const DURABLE: &str = "values of 200 bytes, all different; each acknowledged after fdatasync";

/// All rows, on files in the folder of temporary files.
pub(crate) fn run(runtime: &Runtime, effort: Effort) -> Vec<Row> {
    let folder = must(tempfile::tempdir());
    let store = runtime.block_on(open(&folder.path().join("state.redb")));
    let mut rows = writes(runtime, effort, &store, &folder);
    rows.push(commit_p99(runtime, effort, &store));
    rows.push(longest_gap(runtime, effort, &store));
    rows.push(resident_get(runtime, effort, &store));
    runtime.block_on(store.close());
    rows.push(reopen(runtime, effort));
    rows
}

async fn open(path: &Path) -> StateStore {
    let patient = Duration::from_secs(60);
    let store = StoreOptions::new()
        .write_timeout(patient)
        .bulk_timeout(patient);
    let options = StateOptions::new()
        .path(path)
        .file(FileOptions::new())
        .store(store);
    must(create_state_store("file", options).await)
}

fn key(task: usize, n: usize) -> String {
    format!("key:{}", (task * 7_919 + n * 31) % KEYS)
}

/// 200 bytes that were never written before: SQLite skips what is the same.
fn value() -> Vec<u8> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut value = format!("{{\"n\":{n},\"text\":\"").into_bytes();
    value.resize(198, b'x');
    value.extend_from_slice(b"\"}");
    value
}

fn writes(runtime: &Runtime, effort: Effort, store: &StateStore, folder: &TempDir) -> Vec<Row> {
    let (few, many) = (effort.operations(500), effort.operations(16_000));
    let ours = |callers, operations| ours(runtime, store, callers, operations);
    let row = |what: &str| Row::pair(AREA, what, "writes/s").note(DURABLE);

    let alone = turns(effort, || ours(CALLERS, many), || ours(1, few));
    let mut rows = vec![
        row("durable writes, 64 callers")
            .against("the same with one caller")
            .goal(Goal::AtLeast(6.0))
            .of(&alone),
    ];
    let pools = [
        (POOL, "SQLite WAL FULL, pool of 8"),
        (1, "SQLite WAL FULL, pool of 1"),
    ];
    for (size, name) in pools {
        let pool = Pool::open(&folder.path().join(format!("pool{size}.sqlite")), size);
        let operations = effort.operations(3_000);
        let figures = turns(
            effort,
            || ours(CALLERS, many),
            || sqlite(runtime, &pool, CALLERS, operations),
        );
        let beside = row("durable writes, 64 callers").against(name);
        rows.push(beside.goal(Goal::AtLeast(4.0)).of(&figures));
        if size == 1 {
            let figures = turns(effort, || ours(1, few), || sqlite(runtime, &pool, 1, few));
            rows.push(row("durable writes, 1 caller").against(name).of(&figures));
        }
    }
    let log = Log::open(&folder.path().join("bare.log"));
    for (callers, operations, what) in [
        (1, few, "durable writes, 1 caller"),
        (CALLERS, many, "durable writes, 64 callers"),
    ] {
        let figures = turns(
            effort,
            || ours(callers, operations),
            || bare(runtime, &log, callers, operations),
        );
        let beside = row(what).against("bare append and fdatasync, grouped alike");
        rows.push(beside.of(&figures));
    }
    rows
}

fn ours(runtime: &Runtime, store: &StateStore, callers: usize, operations: usize) -> f64 {
    let store = store.clone();
    per_second(operations, || {
        in_tasks(runtime, callers, operations, move |task, n| {
            let store = store.clone();
            async move { store.set_bytes(&key(task, n), value()).await.is_ok() }
        });
    })
}

fn sqlite(runtime: &Runtime, pool: &Arc<Pool>, callers: usize, operations: usize) -> f64 {
    let pool = pool.clone();
    per_second(operations, || {
        in_tasks(runtime, callers, operations, move |task, n| {
            let pool = pool.clone();
            async move { pool.set(key(task, n), value()).await }
        });
    })
}

fn bare(runtime: &Runtime, log: &Log, callers: usize, operations: usize) -> f64 {
    let log = log.clone();
    per_second(operations, || {
        in_tasks(runtime, callers, operations, move |task, n| {
            let log = log.clone();
            async move { log.append(key(task, n), value()).await }
        });
    })
}

/// The slowest hundredth of writes by 64 callers, in milliseconds.
fn commit_p99(runtime: &Runtime, effort: Effort, store: &StateStore) -> Row {
    let operations = effort.operations(16_000);
    let p99: Vec<f64> = (0..effort.rounds())
        .map(|_| {
            let taken: Arc<Mutex<Vec<f64>>> = Arc::default();
            let (store, noted) = (store.clone(), taken.clone());
            in_tasks(runtime, CALLERS, operations, move |task, n| {
                let (store, noted) = (store.clone(), noted.clone());
                async move {
                    let began = Instant::now();
                    let done = store.set_bytes(&key(task, n), value()).await.is_ok();
                    let took = began.elapsed().as_secs_f64() * 1e3;
                    noted
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(took);
                    done
                }
            });
            let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
            taken.sort_by(f64::total_cmp);
            taken
                .get(taken.len() * 99 / 100)
                .copied()
                .unwrap_or_default()
        })
        .collect();
    Row::own(
        AREA,
        "durable write, 99th percentile, 64 callers",
        "ms",
        Goal::AtMost(20.0),
        &p99,
    )
    .note(DURABLE)
}

/// The longest time for which a task that wants to run every millisecond did not, while 64 callers
/// write: what a runtime thread that waits for the disk would show.
fn longest_gap(runtime: &Runtime, effort: Effort, store: &StateStore) -> Row {
    let operations = effort.operations(16_000);
    let gaps: Vec<f64> = (0..effort.rounds())
        .map(|_| {
            let (stop, stopped) = oneshot::channel::<()>();
            let watching = runtime.spawn(watch(stopped));
            ours(runtime, store, CALLERS, operations);
            drop(stop);
            runtime.block_on(watching).unwrap_or_default()
        })
        .collect();
    Row::own(
        AREA,
        "longest pause of a 1 ms ticker, 64 callers",
        "ms",
        Goal::Report,
        &gaps,
    )
    .note("on the two threads of the runtime that the callers use")
}

async fn watch(mut stopped: oneshot::Receiver<()>) -> f64 {
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let now = Instant::now();
        longest = longest.max(now - last);
        last = now;
    }
    longest.as_secs_f64() * 1e3
}

fn resident_get(runtime: &Runtime, effort: Effort, store: &StateStore) -> Row {
    let calls = effort.operations(400_000);
    let keys: Vec<String> = (0..1_000).map(|n| format!("resident:{n}")).collect();
    let filled = async {
        let entries: Vec<_> = keys.iter().map(|key| (key, "x".repeat(198))).collect();
        store.set_many(&entries).await
    };
    must(runtime.block_on(filled));
    let figures: Vec<f64> = (0..effort.rounds())
        .map(|_| {
            runtime.block_on(async {
                let mut key = keys.iter().cycle();
                let began = Instant::now();
                for _ in 0..calls {
                    let found = store.get_bytes(key.next().map_or("", |key| key)).await;
                    assert!(found.is_ok_and(|found| found.is_some()), "a value is gone");
                }
                began.elapsed().as_nanos() as f64 / calls as f64
            })
        })
        .collect();
    Row::own(
        AREA,
        "get, in memory, 1 caller",
        "ns",
        Goal::AtMost(1_000.0),
        &figures,
    )
    .note("get_bytes of 200 bytes, 1,000 keys, through the store with its tracing")
}

/// From the call to a store that answers, after the process that filled the file was killed.
fn reopen(runtime: &Runtime, effort: Effort) -> Row {
    let keys = effort.operations(1_000_000);
    let rounds = match effort {
        Effort::Quick => 1,
        Effort::Full => 3,
    };
    let seconds: Vec<f64> = (0..rounds)
        .map(|_| {
            let folder = must(tempfile::tempdir());
            let path = folder.path().join("state.redb");
            fill_and_kill(&path, keys);
            runtime.block_on(async {
                let began = Instant::now();
                let store = open(&path).await;
                let last = store.get::<usize>(&format!("key:{}", keys - 1)).await;
                let took = began.elapsed().as_secs_f64();
                assert_eq!(must(last), Some(keys - 1), "a key is gone");
                store.close().await;
                took
            })
        })
        .collect();
    let what = match effort {
        Effort::Quick => "open after kill -9, 50,000 small keys",
        Effort::Full => "open after kill -9, 1,000,000 small keys",
    };
    Row::own(AREA, what, "s", Goal::AtMost(2.0), &seconds)
        .note("another process wrote them and was killed; every page is verified")
}

fn fill_and_kill(path: &Path, keys: usize) {
    let mut command = Command::new(must(std::env::current_exe()));
    command.arg(FILL).arg(path).arg(keys.to_string());
    let mut child = must(command.stdout(Stdio::piped()).spawn());
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        must(BufReader::new(output).read_line(&mut line));
    }
    let (killed, ended) = (child.kill(), child.wait());
    must(killed);
    must(ended);
    assert_eq!(line.trim(), "filled", "the file was not filled");
}

/// What the process does that is killed: it fills a file, says so, and waits.
pub(crate) fn fill(path: &Path, keys: &str) -> ExitCode {
    let keys: usize = must(keys.parse());
    let runtime = must(
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build(),
    );
    runtime.block_on(async {
        let store = open(path).await;
        let entries: Vec<_> = (0..keys).map(|n| (format!("key:{n}"), n)).collect();
        for chunk in entries.chunks(5_000) {
            must(store.set_many(chunk).await);
        }
        println!("filled");
        std::future::pending::<()>().await;
    });
    ExitCode::SUCCESS
}

/// Connections to one SQLite database, as a program would share them between its tasks.
struct Pool {
    free: Semaphore,
    connections: Mutex<Vec<Connection>>,
}

impl Pool {
    fn open(path: &Path, size: usize) -> Arc<Pool> {
        let connections = (0..size).map(|_| connection(path)).collect();
        Arc::new(Pool {
            free: Semaphore::new(size),
            connections: Mutex::new(connections),
        })
    }

    async fn set(self: Arc<Self>, key: String, value: Vec<u8>) -> bool {
        let pool = self.clone();
        let Ok(_free) = self.free.acquire().await else {
            return false;
        };
        let done = context::spawn_blocking(move || {
            let Some(connection) = pool.lock().pop() else {
                return false;
            };
            let put = "INSERT OR REPLACE INTO entries (key, value) VALUES (?1, ?2)";
            let done = (connection.prepare_cached(put))
                .and_then(|mut put| put.execute(rusqlite::params![key, value]));
            pool.lock().push(connection);
            done.is_ok()
        });
        done.await.unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn connection(path: &Path) -> Connection {
    let connection = must(Connection::open(path));
    must(connection.busy_timeout(Duration::from_secs(60)));
    must(connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;",
    ));
    connection
}

/// The least that durability costs: lines appended to a file, grouped as the driver groups them.
#[derive(Clone)]
struct Log(SyncSender<Line>);

struct Line {
    bytes: Vec<u8>,
    answer: oneshot::Sender<bool>,
}

impl Log {
    fn open(path: &Path) -> Log {
        let (send, lines) = sync_channel(4_096);
        let path: PathBuf = path.to_owned();
        thread::spawn(move || write_lines(&path, &lines));
        Log(send)
    }

    async fn append(&self, key: String, value: Vec<u8>) -> bool {
        let (answer, done) = oneshot::channel();
        let mut bytes = key.into_bytes();
        bytes.extend_from_slice(&value);
        // There is room: no more lines wait than there are callers.
        self.0.try_send(Line { bytes, answer }).is_ok() && done.await.unwrap_or_default()
    }
}

fn write_lines(path: &Path, lines: &Receiver<Line>) {
    let mut file = must(File::create(path));
    while let Ok(first) = lines.recv() {
        let batch: Vec<Line> = std::iter::once(first)
            .chain(lines.try_iter().take(255))
            .collect();
        let bytes: Vec<u8> = batch
            .iter()
            .flat_map(|line| line.bytes.iter().copied())
            .collect();
        let written = file.write_all(&bytes).and_then(|()| file.sync_data());
        for line in batch {
            let _ = line.answer.send(written.is_ok());
        }
    }
}
