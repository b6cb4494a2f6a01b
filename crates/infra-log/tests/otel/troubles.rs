//! A receiver that refuses, hangs, cuts, is not there, or comes back: the program goes on, and
//! what is lost is counted.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use infra_log::{ErrorKind, LogHandle, Output};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceResponse,
};
use prost::Message;
use socket2::{Domain, Socket, Type};
use tracing::{info, info_span};

use super::receiver::{Behaviour, Receiver, SOON, body, plain, until};
use super::{Buffer, collector, json, logged};

const SHORT: Duration = Duration::from_secs(1);

/// A port that is ours and refuses connections, until somebody listens.
struct Refusing(Socket);

impl Refusing {
    fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).unwrap();
        Refusing(socket)
    }

    fn port(&self) -> u16 {
        let address = self.0.local_addr().unwrap();
        address.as_socket().unwrap().port()
    }

    fn listen(self) -> Receiver {
        self.0.listen(64).unwrap();
        Receiver::listen(self.0.into(), plain)
    }
}

/// Logs so many events; none of them may wait.
fn log(count: u64) {
    (0..count).for_each(|n| info!(n, "event"));
}

fn assert_lost(handle: &LogHandle, lost: u64) {
    until("all lost", || handle.otel_stats().lost() == lost);
    assert_eq!(handle.otel_stats().sent, 0);
}

fn count(lines: &str, message: &str) -> usize {
    lines.lines().filter(|line| line.contains(message)).count()
}

#[test]
fn nobody_listens_and_later_somebody_does() {
    let port = Refusing::new();
    let settings = collector(&format!("http://127.0.0.1:{}", port.port())).timeout(SHORT);
    let lines = logged(json(), settings, |handle| {
        log(10);
        assert_lost(handle, 10);
        log(5);
        assert_lost(handle, 15);
        let receiver = port.listen();
        info!("after");
        until("arrived", || handle.otel_stats().sent == 1);
        assert_eq!(body(&receiver.logs()[0].1), "after");
        assert_eq!(handle.otel_stats().failed, 15);
    });
    assert_eq!(count(&lines, "\"event\""), 15);
    assert_eq!(count(&lines, "telemetry cannot be sent"), 1, "{lines}");
    assert_eq!(count(&lines, "telemetry is sent again"), 1, "{lines}");
    assert!(lines.contains("\"lost\":15"), "{lines}");
}

#[test]
fn a_receiver_that_hangs_costs_its_batch_and_nobody_s_time() {
    let receiver = Receiver::start();
    receiver.behave(Behaviour::Hang);
    let settings = collector(&receiver.url()).timeout(SHORT);
    logged(json(), settings, |handle| {
        info!("first");
        receiver.wait_for_requests(1);
        let began = Instant::now();
        log(1000);
        assert!(began.elapsed() < Duration::from_secs(10));
        let began = Instant::now();
        let late = handle.flush(Duration::from_millis(20)).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::FlushTimeout);
        assert!(began.elapsed() < Duration::from_secs(10));
        assert_lost(handle, 1001);
        receiver.behave(Behaviour::accept());
        info!("again");
        handle.flush(SOON).unwrap();
        assert_eq!(handle.otel_stats().sent, 1);
    });
}

#[test]
fn a_receiver_that_dies_in_the_middle_is_tried_again() {
    let receiver = Receiver::start();
    receiver.behave(Behaviour::Cut);
    logged(json(), collector(&receiver.url()), |handle| {
        info_span!("span").in_scope(|| info!("line"));
        receiver.wait_for_requests(2);
        receiver.behave(Behaviour::accept());
        handle.flush(SOON).unwrap();
        assert_eq!(
            (handle.otel_stats().sent, handle.otel_stats().lost()),
            (2, 0)
        );
    });
    assert_eq!((receiver.logs().len(), receiver.spans().len()), (1, 1));
}

#[test]
fn a_busy_receiver_is_tried_again_when_it_says_so_and_a_refusal_is_final() {
    let receiver = Receiver::start();
    receiver.behave(Behaviour::Answer(503, "retry-after: 0\r\n", Vec::new()));
    logged(json(), collector(&receiver.url()), |handle| {
        info!("busy");
        receiver.wait_for_requests(3);
        receiver.behave(Behaviour::accept());
        handle.flush(SOON).unwrap();
        assert_eq!(handle.otel_stats().sent, 1);
        receiver.behave(Behaviour::Answer(400, "", Vec::new()));
        let before = receiver.requests().len();
        info!("refused");
        handle.flush(SOON).unwrap();
        assert_eq!(
            (handle.otel_stats().failed, receiver.requests().len()),
            (1, before + 1)
        );
    });
}

#[test]
fn what_is_taken_only_in_part_is_counted_and_told() {
    let receiver = Receiver::start();
    let response = ExportLogsServiceResponse {
        partial_success: Some(ExportLogsPartialSuccess {
            rejected_log_records: 2,
            error_message: "quota".to_owned(),
        }),
    };
    receiver.behave(Behaviour::Answer(200, "", response.encode_to_vec()));
    let lines = logged(
        json(),
        collector(&receiver.url()).interval(SOON),
        |handle| {
            log(5);
            handle.flush(SOON).unwrap();
            let stats = handle.otel_stats();
            assert_eq!((stats.sent, stats.rejected), (3, 2));
        },
    );
    assert!(lines.contains("\"reason\":\"quota\""), "{lines}");
}

#[test]
fn a_full_queue_drops_and_every_record_is_accounted_for() {
    let receiver = Receiver::start();
    receiver.behave(Behaviour::Hang);
    let settings = collector(&receiver.url()).timeout(SHORT).queue_bytes(0);
    logged(json(), settings, |handle| {
        info!("first");
        receiver.wait_for_requests(1);
        log(5000);
        let dropped = handle.otel_stats().dropped;
        assert!(dropped > 0 && dropped < 5000, "{dropped}");
        receiver.behave(Behaviour::accept());
        handle.flush(SOON).unwrap();
        let stats = handle.otel_stats();
        assert_eq!(stats.sent + stats.lost(), 5001);
        assert_eq!(receiver.logs().len() as u64, stats.sent);
    });
}

#[test]
fn what_waits_is_sent_by_flush_and_when_the_log_is_dropped() {
    let receiver = Receiver::start();
    let slow = || collector(&receiver.url()).interval(Duration::from_secs(3600));
    logged(json(), slow(), |handle| {
        log(3);
        handle.flush(SOON).unwrap();
        assert_eq!(receiver.logs().len(), 3);
    });
    logged(json(), slow(), |_| log(2));
    until("sent at the end", || receiver.logs().len() == 5);
}

#[test]
fn order_is_kept_and_many_batches_lose_nothing() {
    let receiver = Receiver::start();
    logged(json(), collector(&receiver.url()).batch(100), |handle| {
        log(2500);
        handle.flush(SOON).unwrap();
        assert_eq!(handle.otel_stats().sent, 2500);
    });
    let number = |(_, record): &(String, opentelemetry_proto::tonic::logs::v1::LogRecord)| {
        super::receiver::attribute(&record.attributes, "n")
    };
    let numbers: Vec<_> = receiver.logs().iter().map(number).collect();
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let expected: Vec<_> = (0..2500).map(|n| Some(Value::IntValue(n))).collect();
    assert_eq!(numbers, expected);
}

/// The one test that sets up the log of the process, so that the exporter's thread has it too.
#[test]
fn trap_19_telemetry_of_the_exporter_does_not_loop() {
    let port = Refusing::new();
    let buffer = Buffer::default();
    let settings = json().level("trace".parse().unwrap());
    let settings = settings.output(Output::Custom(Box::new(buffer.clone())));
    let collector = collector(&format!("http://localhost:{}", port.port())).timeout(SHORT);
    let handle = infra_log::init(settings.otel(collector)).unwrap();
    info!("lost");
    until("lost", || handle.otel_stats().lost() >= 1);
    let receiver = port.listen();
    log(3);
    handle.flush(SOON).unwrap();
    // Were something of an export sent itself, the next batch would be about it, and so on.
    let batches = receiver.requests().len();
    for _ in 0..5 {
        handle.flush(SOON).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(receiver.requests().len(), batches);
    let mine = |text: &String| text == "event";
    let bodies: Vec<String> = receiver
        .logs()
        .iter()
        .map(|(_, record)| body(record))
        .collect();
    assert!(bodies.iter().filter(|b| mine(b)).count() == 3, "{bodies:?}");
    let own = ["telemetry", "infra_log"];
    assert!(
        !bodies.iter().any(|b| own.iter().any(|o| b.contains(o))),
        "{bodies:?}"
    );
    assert_eq!(count(&buffer.text(), "telemetry cannot be sent"), 1);
}

#[cfg(feature = "otel-tls")]
#[test]
fn a_collector_behind_https_is_reached_and_must_be_trusted() {
    use infra_log::OtelSettings;
    use infra_tests::tls::TestCertificates;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    let directory = std::env::temp_dir().join(format!("infra-log-tls-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let made = TestCertificates::generate(&directory);
    let certificate = CertificateDer::from_pem_file(&made.certificate).unwrap();
    let key = PrivateKeyDer::from_pem_file(&made.key).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = std::sync::Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let receiver = Receiver::listen(listener, move |stream| {
        stream.set_read_timeout(Some(SOON)).unwrap();
        let session = rustls::ServerConnection::new(config.clone()).unwrap();
        Box::new(rustls::StreamOwned::new(session, stream))
    });
    let url = format!("https://localhost:{}", receiver.port());
    let settings = || {
        OtelSettings::new(&url)
            .unwrap()
            .timeout(Duration::from_secs(5))
    };
    logged(json(), settings().ca_file(&made.ca), |handle| {
        info!("over TLS");
        handle.flush(SOON).unwrap();
        assert_eq!(handle.otel_stats().sent, 1);
    });
    assert_eq!(body(&receiver.logs()[0].1), "over TLS");
    let lines = logged(json(), settings().timeout(SHORT), |handle| {
        info!("to a stranger");
        handle.flush(SOON).unwrap();
        assert_eq!(handle.otel_stats().failed, 1);
    });
    assert!(lines.contains("telemetry cannot be sent"), "{lines}");
    std::fs::remove_dir_all(directory).unwrap();
}
