//! `evergreen up` with its sandbox.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Client;

use crate::client;
use crate::port;
use crate::program::{Program, Start, wait_for_port};
use crate::sandbox::Sandbox;
use crate::scratch::Scratch;

/// Settings of an endpoint for events at which nothing listens.
pub const ENDPOINT_THAT_IS_DOWN: [(&str, &str); 3] = [
    ("EVERGREEN_EVENTS_URL", "http://127.0.0.1:9/"),
    (
        "EVERGREEN_EVENTS_SECRET",
        "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    ),
    ("EVERGREEN_EVENTS_ALLOW_PRIVATE", "true"),
];

/// A running `evergreen up`.
#[derive(Debug)]
pub struct Up {
    pub program: Program,
    pub public: String,
    pub internal: String,
    pub sandbox: Sandbox,
    pub client: Client,
    start: Start,
    scratch: Scratch,
}

impl Up {
    /// Starts it with these settings, in addition to its addresses and its directory.
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_program(Start::evergreen(&["up"]), settings).await
    }

    /// As [`Up::start`], with the build that has crash points.
    pub async fn with_crash_points() -> Self {
        Self::start_program(Start::evergreen_with_crash_points(&["up"]), &[]).await
    }

    /// As [`Up::start`], of a program with the argument `up`.
    pub async fn start_program(program: Start, settings: &[(&str, &str)]) -> Self {
        let (public, internal, sandbox) = (port::free(), port::free(), port::free());
        let scratch = Scratch::new();
        let at = |port| format!("127.0.0.1:{port}");
        let mut start = program
            .args(&["--listen", &at(public), "--internal-listen", &at(internal)])
            .args(&["--data-dir", &scratch.join("data")])
            .env("EVERGREEN_SANDBOX_LISTEN", at(sandbox))
            .env("EVERGREEN_SANDBOX_RATE_LIMIT", 0);
        for (key, value) in settings {
            start = start.env(key, value);
        }
        let program = start.spawn();
        for port in [public, internal, sandbox] {
            wait_for_port(port).await;
        }
        Self {
            program,
            public: format!("http://{}", at(public)),
            internal: format!("http://{}", at(internal)),
            sandbox: Sandbox::at(&format!("http://{}", at(sandbox))),
            client: client::new(),
            start,
            scratch,
        }
    }

    /// Restarts it with SIGTERM. Returns the exit code and log of the old process.
    ///
    /// # Panics
    /// If it does not come back.
    pub async fn restart(&mut self) -> (Option<i32>, Vec<String>) {
        let former = std::mem::replace(&mut self.program, Start::new("true").spawn());
        let ended = former.terminate(Duration::from_secs(30)).await;
        self.start_again().await;
        ended
    }

    /// Starts it after it has ended.
    ///
    /// # Panics
    /// If it does not come back.
    pub async fn start_again(&mut self) {
        self.program = self.start.spawn();
        for url in [&self.public, &self.internal] {
            let port = url.rsplit(':').next().and_then(|port| port.parse().ok());
            wait_for_port(port.expect("a port")).await;
        }
    }

    /// Adds a setting from the next start on.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.start = self.start.env(key, value);
        self
    }

    /// Uses another program from the next start on.
    pub fn use_program(&mut self, program: impl Into<PathBuf>) {
        self.start.program = program.into();
    }

    /// Uses a separate sandbox process as GHL, which outlives restarts of `up`.
    ///
    /// # Panics
    /// If it does not come back.
    pub async fn against(mut self, sandbox: &Sandbox) -> Self {
        self.start = self
            .start
            .env("GHL_CLIENT_ID", "sandbox-client")
            .env("GHL_CLIENT_SECRET", "sandbox-secret")
            .env("GHL_API_URL", &sandbox.url)
            .env(
                "GHL_AUTHORIZE_URL",
                format!("{}/v2/oauth/chooselocation", sandbox.url),
            );
        self.restart().await;
        self
    }

    /// Waits until it has ended without a signal, and starts it again. Returns the exit code and log.
    ///
    /// # Panics
    /// If it does not end, or does not come back.
    pub async fn wait_for_exit_and_restart(
        &mut self,
        between: impl FnOnce(),
    ) -> (Option<i32>, Vec<String>) {
        let former = std::mem::replace(&mut self.program, Start::new("true").spawn());
        let ended = former.wait_for_exit(Duration::from_secs(60)).await;
        between();
        self.start_again().await;
        ended
    }

    /// Kills it with `kill -9`, and starts it again.
    ///
    /// # Panics
    /// If it does not come back.
    pub async fn kill_and_start(&mut self) {
        let former = std::mem::replace(&mut self.program, Start::new("true").spawn());
        former.kill().await;
        self.start_again().await;
    }

    pub async fn install(&self, location: &str) -> String {
        client::install(&self.client, &self.public, location).await
    }

    /// The `evergreen` command line, as an operator uses it.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Start {
        Start::evergreen(args)
            .env("EVERGREEN_ADMIN_URL", &self.internal)
            .env("EVERGREEN_DATA_DIR", self.scratch.join("data"))
    }

    #[must_use]
    pub fn data_dir(&self) -> String {
        self.scratch.join("data")
    }
}
