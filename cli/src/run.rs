//! The commands that serve.

mod many;
mod one;

use std::net::SocketAddr;

use service::config::Layered;
use service::telemetry;

use crate::exit::Failure;
use crate::process::{Process, bind, read};

pub(crate) use many::{broker, gateway, lead, redis_url};
pub(crate) use one::up;

/// Where the sandbox listens unless told otherwise.
const SANDBOX: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8090);

/// `evergreen sandbox`.
pub(crate) async fn sandbox(source: &Layered) -> Result<(), Failure> {
    let (listen, config, telemetry) = read(source, |settings| {
        (
            sandbox_address(settings),
            sandbox::Config::read(settings),
            telemetry::Config::read(settings, "evergreen-sandbox"),
        )
    })?;
    let listener = bind(listen).await?;
    let process = Process::start(&telemetry, source)?;
    tracing::info!(%listen, "the sandbox plays GHL");
    serve_sandbox(&process, listener, config);
    process.run(std::time::Duration::from_secs(5)).await
}

fn sandbox_address(settings: &mut service::config::Settings<'_>) -> SocketAddr {
    let listen = settings.parse(
        "EVERGREEN_SANDBOX_LISTEN",
        SANDBOX,
        "an address and port such as 127.0.0.1:8090",
    );
    if !listen.ip().is_loopback() {
        settings.mistake(
            "EVERGREEN_SANDBOX_LISTEN",
            "must be on loopback: everybody who reaches the sandbox may steer it",
        );
    }
    listen
}

fn serve_sandbox(process: &Process, listener: tokio::net::TcpListener, config: sandbox::Config) {
    let shutdown = process.shutdown.clone();
    process.shutdown.spawn(async move {
        let stop = shutdown.started();
        if let Err(error) = sandbox::serve(listener, config, stop).await {
            tracing::error!(%error, "the sandbox failed");
        }
    });
}
