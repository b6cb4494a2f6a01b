//! Runs a Redis or Valkey container for as long as standard input stays open.
//!
//! `redis-container IMAGE` prints the server's address, `redis://127.0.0.1:<port>`, and removes the
//! container when standard input ends. The port is published on 127.0.0.1 only.

use std::io::{Read, stdin};
use std::process::ExitCode;
use std::time::Duration;

use infra_tests::servers::free_port;
use testcontainers::bollard::models::PortBinding;
use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt, TestcontainersError};

const START_TIMEOUT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let Some(image) = std::env::args().nth(1) else {
        eprintln!("usage: redis-container IMAGE");
        return ExitCode::from(2);
    };
    match run(&image) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("container of {image}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(image: &str) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let port = free_port();
    let container = runtime.block_on(start(image, port))?;
    println!("redis://127.0.0.1:{port}");
    stdin().read_to_end(&mut Vec::new())?;
    runtime.block_on(container.rm())?;
    Ok(())
}

async fn start(
    image: &str,
    port: u16,
) -> Result<ContainerAsync<GenericImage>, TestcontainersError> {
    let (name, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
    GenericImage::new(name, tag)
        .with_exposed_port(6379.tcp())
        .with_wait_for(WaitFor::message_on_stdout("Ready to accept connections"))
        .with_startup_timeout(START_TIMEOUT)
        .with_host_config_modifier(move |host| {
            let binding = PortBinding {
                host_ip: Some("127.0.0.1".into()),
                host_port: Some(port.to_string()),
            };
            host.publish_all_ports = Some(false);
            host.port_bindings = Some([("6379/tcp".to_owned(), Some(vec![binding]))].into());
        })
        .start()
        .await
}
