//! A proxy on the loopback interface that cuts connections where it is told to.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// Passes bytes on between its clients and one server.
///
/// Its threads end with the connections, and with the first client after it was dropped.
#[derive(Debug)]
pub struct CuttingProxy {
    port: u16,
    answers: Arc<Answers>,
}

/// What goes from the server to the clients.
#[derive(Debug, Default)]
struct Answers {
    passed: AtomicU64,
    closed: AtomicBool,
    /// Clients are accepted, and nothing is passed on for them.
    held: AtomicBool,
    /// How many bytes still pass before the connection is cut.
    left: Mutex<Option<usize>>,
    /// How long a connection lives.
    life: Mutex<Option<Duration>>,
    accepted: Mutex<Vec<Instant>>,
}

impl CuttingProxy {
    /// A proxy in front of this port of 127.0.0.1.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn start(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port to listen on");
        let port = listener.local_addr().expect("a bound port").port();
        let answers = Arc::new(Answers::default());
        let shared = answers.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.closed.load(Ordering::SeqCst) {
                    return;
                }
                shared.accepted().push(Instant::now());
                while shared.held.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(5));
                }
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server));
                if let Ok(server) = TcpStream::connect(address) {
                    connect(client, server, &shared);
                }
            }
        });
        CuttingProxy { port, answers }
    }

    /// Where clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on new clients wait: they are connected, and nobody answers. Until it is told
    /// `false`.
    pub fn hold(&self, held: bool) {
        self.answers.held.store(held, Ordering::SeqCst);
    }

    /// Lets so many more bytes of answers pass, whoever they are for, and then cuts the connection
    /// that has the next one; once.
    pub fn cut_after(&self, bytes: usize) {
        *self.left() = Some(bytes);
    }

    /// From now on each new connection ends after so long, whatever goes on there; or after none.
    pub fn end_each_after(&self, life: Option<Duration>) {
        *self.answers.life() = life;
    }

    /// When the clients connected.
    pub fn accepted(&self) -> Vec<Instant> {
        self.answers.accepted().clone()
    }

    /// Cuts nothing more; true when there was still something to cut.
    pub fn disarm(&self) -> bool {
        self.left().take().is_some()
    }

    /// The bytes of answers that have passed so far.
    pub fn passed(&self) -> u64 {
        self.answers.passed.load(Ordering::SeqCst)
    }

    fn left(&self) -> MutexGuard<'_, Option<usize>> {
        self.answers.left.lock().expect("no thread has panicked")
    }
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.answers.closed.store(true, Ordering::SeqCst);
        self.hold(false);
        // Wakes the thread that listens.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn connect(client: TcpStream, server: TcpStream, answers: &Arc<Answers>) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (Ok(to_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    if let Some(life) = *answers.life() {
        let ends = [client.try_clone(), server.try_clone()];
        thread::spawn(move || {
            thread::sleep(life);
            for end in ends.into_iter().flatten() {
                let _ = end.shutdown(Shutdown::Both);
            }
        });
    }
    thread::spawn(move || pass(client, to_server, |bytes| (bytes, false)));
    let answers = answers.clone();
    thread::spawn(move || pass(server, to_client, move |bytes| answers.allow(bytes)));
}

/// Passes on what is allowed until either side ends, or it is told to cut.
fn pass(mut from: TcpStream, mut to: TcpStream, allow: impl Fn(usize) -> (usize, bool)) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let (allowed, cut) = allow(read);
        if to.write_all(&buffer[..allowed]).is_err() || cut {
            break;
        }
    }
    for stream in [from, to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

impl Answers {
    fn life(&self) -> MutexGuard<'_, Option<Duration>> {
        self.life.lock().expect("no thread has panicked")
    }

    fn accepted(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.accepted.lock().expect("no thread has panicked")
    }

    /// How many of these bytes may pass, and whether the connection is cut after them.
    fn allow(&self, bytes: usize) -> (usize, bool) {
        let mut left = self.left.lock().expect("no thread has panicked");
        let (allowed, cut) = match *left {
            Some(some) if some < bytes => (some, true),
            Some(some) => {
                *left = Some(some - bytes);
                (bytes, false)
            }
            None => (bytes, false),
        };
        if cut {
            *left = None;
        }
        self.passed.fetch_add(allowed as u64, Ordering::SeqCst);
        (allowed, cut)
    }
}
