//! The sandbox, a local GHL: `evergreen sandbox`, and inside `evergreen up` without an app at GHL.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use broker::{APP_SECTIONS, DEFAULT_SCOPES};
use secrecy::ExposeSecret;
use service::config::{Layered, Settings, Source};
use service::connection_limits::ConnectionLimits;
use service::telemetry;
use tokio::net::TcpListener;
use tracing::{error, info};

use crate::exit::Failure;
use crate::process::{Process, bind, read};
use crate::settings::{Common, spelling};

/// The default address of the sandbox.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8090);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// So that calls for an agency itself can be tried, too. An app at GHL is asked only for scopes that every app needs: GHL
/// refuses a consent with a scope that the app does not have.
const AGENCY_SCOPE: &str = "companies.readonly";

/// Marks, among the settings, that the sandbox is to be started.
const MARKER: &str = "(sandbox)";

/// `evergreen sandbox`.
pub(crate) async fn sandbox(source: &Layered) -> Result<(), Failure> {
    let (local_ghl, telemetry) = read(source, |settings| {
        let read = (
            LocalGhl::settings(settings),
            telemetry::Config::read(settings, "evergreen-sandbox", crate::VERSION),
        );
        spelling::refuse_unknown(settings);
        read
    })?;
    let listen = local_ghl.listen;
    let bound = local_ghl.bind().await?;
    let process = Process::start(
        ("sandbox", &telemetry),
        (ConnectionLimits::none(), Duration::ZERO),
        source,
    )?;
    info!(%listen, "the sandbox serves");
    bound.serve(&process);
    process.run(SHUTDOWN_TIMEOUT, async {}).await
}

/// The sandbox to start.
pub(super) struct LocalGhl {
    listen: SocketAddr,
    config: sandbox::Config,
}

impl LocalGhl {
    /// The settings that connect `up` to the sandbox. Empty if there is an app at GHL.
    pub(super) fn overrides(source: &Layered) -> HashMap<&'static str, String> {
        let has_sections = !Settings::new(source).sections(APP_SECTIONS).is_empty();
        if source.get("GHL_CLIENT_ID").is_some() || has_sections {
            return HashMap::new();
        }
        // Mistakes in these settings are reported when all settings are read.
        let mut settings = Settings::new(source);
        let common = Common::read(&mut settings, 8080, 9080);
        let Self { listen, config } = Self::settings(&mut settings);
        let secret = config.client_secret.expose_secret().to_owned();
        let has_tls = settings.text("EVERGREEN_TLS_CERT").is_some();
        let scheme = if has_tls { "https" } else { "http" };
        let mut overrides = HashMap::from([
            (MARKER, "yes".to_owned()),
            ("GHL_CLIENT_ID", config.client_id.clone()),
            ("GHL_CLIENT_SECRET", secret),
            ("GHL_API_URL", format!("http://{listen}")),
            (
                "GHL_AUTHORIZE_URL",
                format!("http://{listen}/v2/oauth/chooselocation"),
            ),
            (
                "GHL_REDIRECT_URI",
                format!("{scheme}://{}/oauth/callback", common.listen),
            ),
        ]);
        if source.get("GHL_SCOPES").is_none() {
            overrides.insert("GHL_SCOPES", format!("{DEFAULT_SCOPES} {AGENCY_SCOPE}"));
        }
        overrides.extend(Self::webhooks(source, &config, &common.listen, has_tls));
        overrides
    }

    /// The sandbox sends its webhooks to `up`, unless the settings say something else. It would not trust the
    /// certificate of `up`.
    fn webhooks(
        source: &Layered,
        config: &sandbox::Config,
        listen: &SocketAddr,
        has_tls: bool,
    ) -> Vec<(&'static str, String)> {
        const URL: &str = "EVERGREEN_SANDBOX_WEBHOOK_URL";
        const KEY: &str = "GHL_WEBHOOK_ED25519_KEY";
        if has_tls || [URL, KEY].iter().any(|key| source.get(key).is_some()) {
            return Vec::new();
        }
        let mut here = *listen;
        if here.ip().is_unspecified() {
            here.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        let url = format!("http://{here}/webhooks/ghl");
        vec![(URL, url), (KEY, sandbox::webhook_key_pem(config))]
    }

    /// The sandbox to start, if [`LocalGhl::overrides`] asks for it.
    pub(super) fn read(settings: &mut Settings<'_>) -> Option<Self> {
        settings.text(MARKER)?;
        Some(Self::settings(settings))
    }

    fn settings(settings: &mut Settings<'_>) -> Self {
        let listen = settings.parse(
            "EVERGREEN_SANDBOX_LISTEN",
            DEFAULT_LISTEN,
            "an address and port such as 127.0.0.1:8090",
        );
        if !listen.ip().is_loopback() {
            settings.mistake(
                "EVERGREEN_SANDBOX_LISTEN",
                "must be on loopback: everyone who can reach the sandbox can control it",
            );
        }
        Self {
            listen,
            config: sandbox::Config::read(settings),
        }
    }

    pub(super) async fn bind(self) -> Result<BoundGhl, Failure> {
        Ok(BoundGhl {
            listener: bind(self.listen).await?,
            config: self.config,
        })
    }
}

/// The sandbox with its listener.
pub(super) struct BoundGhl {
    listener: TcpListener,
    config: sandbox::Config,
}

impl BoundGhl {
    /// Serves in the background until shutdown.
    pub(super) fn serve(self, process: &Process) {
        let shutdown = process.shutdown.clone();
        process.shutdown.spawn(async move {
            let stop = shutdown.started();
            if let Err(error) = sandbox::serve(self.listener, self.config, stop).await {
                error!(%error, "the sandbox failed");
            }
        });
    }
}
