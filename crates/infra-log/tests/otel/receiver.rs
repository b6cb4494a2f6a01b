//! A collector that the tests run themselves: OTLP over HTTP on a free port of the loopback
//! interface, read with the types that OpenTelemetry generates.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// How long a test waits for what must come.
pub const SOON: Duration = Duration::from_secs(30);

/// How the receiver answers a request.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// With this status, these headers and this body.
    Answer(u16, &'static str, Vec<u8>),
    /// Never; the connection stays open.
    Hang,
    /// Closes the connection in the middle of the request.
    Cut,
}

impl Behaviour {
    pub fn accept() -> Self {
        Behaviour::Answer(200, "", Vec::new())
    }
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }
}

#[derive(Debug)]
struct Shared {
    behaviour: Mutex<Behaviour>,
    /// All requests, answered well or not.
    requests: Mutex<Vec<Request>>,
    accepted: Mutex<Vec<Request>>,
    came: Condvar,
    stopped: AtomicBool,
}

/// Stopped when dropped.
#[derive(Debug)]
pub struct Receiver {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    pub fn start() -> Self {
        Receiver::listen(TcpListener::bind("127.0.0.1:0").unwrap(), plain)
    }

    pub fn listen(
        listener: TcpListener,
        wrap: impl Fn(TcpStream) -> Box<dyn Connection> + Send + 'static,
    ) -> Self {
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Behaviour::accept()),
            requests: Mutex::default(),
            accepted: Mutex::default(),
            came: Condvar::new(),
            stopped: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            // What hangs is kept open.
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                if serving.stopped.load(Ordering::Acquire) {
                    return;
                }
                let mut stream = wrap(stream.unwrap());
                if let Ok(true) = serving.serve(&mut *stream) {
                    kept.push(stream);
                }
            }
        });
        Receiver {
            port,
            shared,
            thread: Some(thread),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap() = behaviour;
    }

    /// Every request so far, also those that were not taken.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Waits until so many requests have come.
    pub fn wait_for_requests(&self, count: usize) {
        let few = |requests: &mut Vec<Request>| requests.len() < count;
        let requests = self.shared.requests.lock().unwrap();
        let waited = self.shared.came.wait_timeout_while(requests, SOON, few);
        assert!(
            !waited.unwrap().1.timed_out(),
            "fewer than {count} requests came"
        );
    }

    /// Every log record that was taken, with its scope.
    pub fn logs(&self) -> Vec<(String, LogRecord)> {
        let requests = self.taken("/v1/logs").into_iter();
        let requests = requests.map(|r| ExportLogsServiceRequest::decode(&*r.body).unwrap());
        let scopes = requests
            .flat_map(|r| r.resource_logs)
            .flat_map(|r| r.scope_logs);
        let named = scopes.flat_map(|scope| {
            let name = scope.scope.unwrap().name;
            scope
                .log_records
                .into_iter()
                .map(move |record| (name.clone(), record))
        });
        named.collect()
    }

    /// Every span that was taken.
    pub fn spans(&self) -> Vec<Span> {
        let requests = self.taken("/v1/traces").into_iter();
        let requests = requests.map(|r| ExportTraceServiceRequest::decode(&*r.body).unwrap());
        let scopes = requests
            .flat_map(|r| r.resource_spans)
            .flat_map(|r| r.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }

    /// The attributes of the resource in the first request.
    pub fn resource(&self) -> Vec<KeyValue> {
        let first = self.taken("/v1/logs").remove(0);
        let mut request = ExportLogsServiceRequest::decode(&*first.body).unwrap();
        request.resource_logs.remove(0).resource.unwrap().attributes
    }

    fn taken(&self, path: &str) -> Vec<Request> {
        let accepted = self.shared.accepted.lock().unwrap();
        accepted
            .iter()
            .filter(|r| r.path.ends_with(path))
            .cloned()
            .collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let thread = self.thread.take().unwrap();
        let result = thread.join();
        if !std::thread::panicking() {
            result.unwrap();
        }
    }
}

/// A connection, secured or not.
pub trait Connection: Read + Write + Send {}

impl<C: Read + Write + Send> Connection for C {}

pub fn plain(stream: TcpStream) -> Box<dyn Connection> {
    stream.set_read_timeout(Some(SOON)).unwrap();
    Box::new(stream)
}

impl Shared {
    /// True when the connection is to be kept open.
    fn serve(&self, stream: &mut dyn Connection) -> io::Result<bool> {
        let behaviour = self.behaviour.lock().unwrap().clone();
        if matches!(behaviour, Behaviour::Cut) {
            stream.read_exact(&mut [0; 10])?;
            self.note(Request {
                path: String::new(),
                headers: Vec::new(),
                body: Vec::new(),
            });
            return Ok(false);
        }
        let request = read_request(stream)?;
        self.note(request.clone());
        let Behaviour::Answer(status, headers, body) = behaviour else {
            return Ok(true);
        };
        if status == 200 {
            self.accepted.lock().unwrap().push(request);
        }
        let length = body.len();
        let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(&body)?;
        stream.flush()?;
        Ok(false)
    }

    fn note(&self, request: Request) {
        self.requests.lock().unwrap().push(request);
        self.came.notify_all();
    }
}

fn read_request(stream: &mut dyn Connection) -> io::Result<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request {
        path,
        headers,
        body: Vec::new(),
    };
    let length = request
        .header("content-length")
        .unwrap_or("0")
        .parse()
        .unwrap();
    request.body.resize(length, 0);
    reader.read_exact(&mut request.body)?;
    Ok(request)
}

/// The value of an attribute.
pub fn attribute(attributes: &[KeyValue], key: &str) -> Option<Value> {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    found.and_then(|attribute| attribute.value.clone()?.value)
}

pub fn text(value: &str) -> Option<Value> {
    Some(Value::StringValue(value.to_owned()))
}

pub fn body(record: &LogRecord) -> String {
    match record.body.clone() {
        Some(AnyValue {
            value: Some(Value::StringValue(text)),
            ..
        }) => text,
        other => panic!("the body is no text but {other:?}"),
    }
}

/// Waits until it holds.
pub fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
