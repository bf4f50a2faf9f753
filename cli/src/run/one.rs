//! `evergreen up`: everything in one process, on this machine.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};

use broker::{Broker, Parts};
use gateway::Gateway;
use secrecy::ExposeSecret;
use service::config::{Layered, Settings, Source};
use service::telemetry;
use store::freshness::Lead;
use store_writer::{Escrow, Journal, Leases, Rings, Store};
use tracing::warn;

use super::{many, sandbox_address, serve_sandbox};
use crate::data_dir;
use crate::exit::Failure;
use crate::process::{Process, bind, read};
use crate::rings;
use crate::settings::Common;

struct All {
    common: Common,
    broker: broker::Config,
    sandbox: Option<Sandbox>,
    rings: Option<Rings>,
    lead: Lead,
    telemetry: telemetry::Config,
}

struct Sandbox {
    listen: SocketAddr,
    config: sandbox::Config,
}

/// `evergreen up`.
pub(crate) async fn up(source: &Layered) -> Result<(), Failure> {
    let mut source = wire_sandbox(source);
    let all = read(&source, settle)?;
    let common = all.common;
    let listener = bind(common.listen).await?;
    let internal = bind(common.internal_listen).await?;
    // The gateway talks to its broker as it would across a network, on a port of their own.
    let between = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let broker_address = between.local_addr().map_err(Failure::unavailable)?;
    source.wire("EVERGREEN_BROKER_URL", format!("http://{broker_address}"));
    let gateway_config = read(&source, gateway::Config::read)?;
    let sandbox = match all.sandbox {
        Some(sandbox) => Some((bind(sandbox.listen).await?, sandbox)),
        None => None,
    };
    data_dir::prepare(&common.data_dir, all.rings.is_none())?;
    let rings = match all.rings {
        Some(rings) => rings,
        None => rings::kept(&common.data_dir)?,
    };
    let store = Store::embedded(&common.data_dir, rings, all.lead).map_err(Failure::unavailable)?;
    data_dir::mark(&common.data_dir)?;
    let journal =
        Journal::open(&common.data_dir, all.broker.journal_max).map_err(Failure::unavailable)?;

    let process = Process::start(&all.telemetry, &source)?;
    let credentials = all.broker.endpoint.credentials_fingerprint();
    let ahead = store.writer.take_over_all(&credentials).await;
    match ahead.map_err(Failure::unavailable)? {
        0 => {}
        records => warn!(
            records,
            "records lie in the future: this machine's clock was ahead. They are refreshed now"
        ),
    }
    let gateway = Gateway::new(gateway_config, store.reader.clone(), &process.shutdown);
    for address in [common.listen, common.internal_listen] {
        gateway.check_exposure(address).await?;
    }
    let ops = process.ops(common.internal_listen, store.reader.clone());
    let parts = Parts {
        writer: store.writer,
        reader: store.reader,
        leases: Leases::local(),
        escrow: Escrow::none(),
        lock_nodes: None,
        journal,
    };
    let is_sandboxed = sandbox.is_some();
    if let Some((listener, sandbox)) = sandbox {
        serve_sandbox(&process, listener, sandbox.config);
    }
    let broker = Broker::start(all.broker, parts, &process.readiness, &process.shutdown)
        .map_err(Failure::unavailable)?;
    let is_loopback = common.internal_listen.ip().is_loopback();
    process.serve(between, broker.public(true));
    process.serve_by_workers(listener, gateway.clone())?;
    let internal_routes = gateway.internal().merge(broker.internal(is_loopback));
    process.serve(internal, internal_routes.merge(ops));
    println!("{}", banner(&common, is_sandboxed));
    process.run(common.shutdown_timeout).await
}

fn settle(settings: &mut Settings<'_>) -> All {
    if settings.secret("EVERGREEN_REDIS_URL").is_some() {
        settings.mistake(
            "EVERGREEN_REDIS_URL",
            "is not for `up`, which keeps its store in a file: run `evergreen broker` and \
             `evergreen gateway` over Redis",
        );
    }
    let rings = match (
        rings::optional(settings, "EVERGREEN_ACCESS_KEYS"),
        rings::optional(settings, "EVERGREEN_REFRESH_KEYS"),
    ) {
        (Some(access), Some(refresh)) => Some(Rings { access, refresh }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            settings.mistake(
                "EVERGREEN_ACCESS_KEYS",
                "and EVERGREEN_REFRESH_KEYS go together: set both, or neither to have them made",
            );
            None
        }
    };
    let is_sandboxed = settings.text(SANDBOXED).is_some();
    // Read again once the broker's port is known; its mistakes are wanted now.
    let _ = gateway::Config::read(settings);
    let common = Common::read(settings, 8080, 9080);
    data_dir::check_disk(settings, &common.data_dir);
    All {
        common,
        broker: broker::Config::read(settings),
        sandbox: is_sandboxed.then(|| Sandbox {
            listen: sandbox_address(settings),
            config: sandbox::Config::read(settings),
        }),
        rings,
        lead: many::lead(settings),
        telemetry: telemetry::Config::read(settings, "evergreen"),
    }
}

/// Marks, among the settings, that the sandbox is to be started.
const SANDBOXED: &str = "(sandbox)";

/// Without an app at GHL: the settings that wire everything to the sandbox, over the others.
fn wire_sandbox(source: &Layered) -> Wired<'_> {
    let mut wires = HashMap::new();
    if source.get("GHL_CLIENT_ID").is_none() {
        // What is wrong with these is told with everything else, when all settings are read.
        let mut settings = Settings::new(source);
        let common = Common::read(&mut settings, 8080, 9080);
        let listen = sandbox_address(&mut settings);
        let config = sandbox::Config::read(&mut settings);
        let secret = config.client_secret.expose_secret().to_owned();
        wires.extend([
            (SANDBOXED, "yes".to_owned()),
            ("GHL_CLIENT_ID", config.client_id),
            ("GHL_CLIENT_SECRET", secret),
            ("GHL_API_URL", format!("http://{listen}")),
            (
                "GHL_AUTHORIZE_URL",
                format!("http://{listen}/v2/oauth/chooselocation"),
            ),
            (
                "GHL_REDIRECT_URI",
                format!("http://{}/oauth/callback", common.listen),
            ),
        ]);
    }
    Wired {
        wires,
        rest: source,
    }
}

struct Wired<'a> {
    wires: HashMap<&'static str, String>,
    rest: &'a Layered,
}

impl Wired<'_> {
    fn wire(&mut self, key: &'static str, value: String) {
        self.wires.insert(key, value);
    }
}

impl Source for Wired<'_> {
    fn get(&self, key: &str) -> Option<String> {
        self.wires.get(key).cloned().or_else(|| self.rest.get(key))
    }

    fn keys(&self) -> Vec<String> {
        self.rest.keys()
    }
}

fn banner(common: &Common, is_sandboxed: bool) -> String {
    let Common {
        listen,
        internal_listen,
        data_dir,
        ..
    } = common;
    let ghl = if is_sandboxed {
        "GHL is played by the sandbox on this machine (set GHL_CLIENT_ID for the real one)"
    } else {
        "GHL is the real one"
    };
    format!(
        "\nevergreen is up. {ghl}.\n\n  \
         install the app    open http://{listen}/oauth/install\n  \
         then call GHL      curl 'http://{listen}/api/ghl/products?installation_id=install_…'\n  \
         see its token      curl 'http://{listen}/api/oauth/status?installation_id=install_…'\n  \
         operate            evergreen installations list · curl http://{internal_listen}/metrics\n  \
         data               {}\n",
        data_dir.display()
    )
}
