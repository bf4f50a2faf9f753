//! `evergreen up`: everything in one process, on this machine.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use broker::{Broker, Parts};
use gateway::{Gateway, PublicAccess};
use secrecy::{ExposeSecret, SecretString};
use service::config::{Layered, Origin, Settings, Source};
use service::origin::OwnHosts;
use service::telemetry;
use service::tls::ListenerTls;
use store::freshness::Lead;
use store::key_list::RingKind;
use store::{KeyHash, Scope};
use store_writer::{Escrow, Journal, Leases, Rings, Store, StoreWriter, WriteError};
use tracing::warn;

use super::banner::Banner;
use super::inspect::{self, Checked, Inspected, Place};
use super::local_ghl::LocalGhl;
use super::redis;
use crate::exit::Failure;
use crate::process::{Process, bind, read};
use crate::reload::{self, BrokerReload};
use crate::settings::{Common, Sources, spelling};
use crate::{admin_key, bootstrap_key, data_dir, key_rings};

struct All {
    common: Common,
    broker: broker::Config,
    local_ghl: Option<LocalGhl>,
    rings: Option<Rings>,
    bootstrap_key: Option<SecretString>,
    lead: Lead,
    telemetry: telemetry::Config,
    tls: Option<ListenerTls>,
}

/// `evergreen up`.
pub(crate) async fn up(sources: &Sources, source: &Layered) -> Result<(), Failure> {
    let mut source = Overridden {
        overrides: LocalGhl::overrides(source),
        rest: source,
    };
    let all = read(&source, read_all)?;
    let common = all.common;
    let listener = bind(common.listen).await?;
    let internal = bind(common.internal_listen).await?;
    // The gateway calls the broker over loopback, as it does across a network: there is one code path.
    let broker_listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let broker_address = broker_listener.local_addr();
    let broker_address = broker_address.map_err(Failure::unavailable)?;
    let broker_url = format!("http://{broker_address}");
    source.overrides.insert("EVERGREEN_BROKER_URL", broker_url);
    let gateway_config = read(&source, gateway::Config::read)?;
    let local_ghl = match all.local_ghl {
        Some(local_ghl) => Some(local_ghl.bind().await?),
        None => None,
    };
    data_dir::prepare(&common.data_dir, all.rings.is_none())?;
    let rings = match all.rings {
        Some(rings) => rings,
        None => key_rings::load(&common.data_dir)?,
    };
    // Before the store, whose metrics need a recorder.
    let process = Process::start(("up", &all.telemetry), common.running(), &source)?;
    let store = Store::embedded(&common.data_dir, rings, all.lead).map_err(Failure::unavailable)?;
    key_rings::check(&store.writer).await?;
    data_dir::mark(&common.data_dir)?;
    let admin_key = admin_key::load_or_create(&common.data_dir)?;
    let local_admin = KeyHash::of(admin_key.expose_secret());
    let registered = admin_key::register(&admin_key, &store.writer).await;
    registered.map_err(Failure::unavailable)?;
    let journal =
        Journal::open(&common.data_dir, all.broker.journal_max).map_err(Failure::unavailable)?;
    key_rings::prepare_journal(&journal, store.writer.rings()).await?;

    let scheme = if all.tls.is_some() { "https" } else { "http" };
    let process = process.with_tls(all.tls);
    let apps = all.broker.apps.iter();
    let credentials: Vec<String> = apps
        .map(|app| app.endpoint.credentials_fingerprint())
        .collect();
    let ahead = store.writer.take_over_all(&credentials).await;
    match ahead.map_err(Failure::unavailable)? {
        0 => {}
        records => warn!(
            records,
            "records lie in the future: this machine's clock was ahead. They are refreshed now"
        ),
    }
    let is_sandboxed = local_ghl.is_some();
    let api_url = all.broker.api_url.clone();
    let redirect_uri = all.broker.apps.first();
    let redirect_uri = redirect_uri.map(|app| app.consent.redirect_uri.clone());
    let access = PublicAccess {
        own_hosts: common.public_hosts(),
        // The sandbox has nobody's data. Other machines still need a key.
        allows_anonymous: is_sandboxed && common.listen.ip().is_loopback(),
        readiness: process.readiness.clone(),
    };
    let allows_anonymous = access.allows_anonymous;
    let first_key = first_key(all.bootstrap_key.as_ref(), &store.writer, is_sandboxed).await;
    let first_key = first_key.map_err(Failure::unavailable)?;
    let gateway = Gateway::new(gateway_config, access, &store.reader, &process.shutdown);
    let used = gateway.clone();
    let used = Arc::new(move |key: &KeyHash| used.key_used(key));
    let internal_hosts = common.internal_hosts();
    let reader = store.reader.clone();
    let ops = process.ops(common.internal_listen, internal_hosts, reader, used);
    let parts = Parts {
        writer: store.writer,
        reader: store.reader,
        leases: Leases::local(),
        escrow: Escrow::none(),
        lock_nodes: None,
        journal,
    };
    if let Some(local_ghl) = local_ghl {
        local_ghl.serve(&process);
    }
    let broker = Broker::start(all.broker, parts, &process.readiness, &process.shutdown)
        .map_err(Failure::unavailable)?;
    let (sources, overrides) = (sources.clone(), source.overrides.clone());
    let directory = common.data_dir.clone();
    let reload = BrokerReload {
        broker: broker.clone(),
        gateway: Some(gateway.clone()),
        shared: process.reloaded(),
        read: Arc::new(move |seen| {
            let source = Overridden {
                overrides: overrides.clone(),
                rest: &sources.read()?,
            };
            let all = read(&source, read_all)?;
            let gateway = read(&source, gateway::Config::read)?;
            let rings = match all.rings {
                Some(rings) => rings,
                None => key_rings::load(&directory)?,
            };
            seen(&source);
            Ok(reload::Read {
                common: all.common,
                broker: all.broker,
                gateway: Some(gateway),
                rings,
                telemetry: all.telemetry,
            })
        }),
    };
    process.reload_on_hangup(reload.in_use(&source), reload);
    // Only the gateway of this process calls it, by its address.
    let broker_hosts = OwnHosts::new(broker_address, []);
    process.serve_itself(
        broker_listener,
        broker.public(broker_hosts, allows_anonymous),
    );
    process.serve_on_workers(listener, gateway.clone())?;
    let internal_hosts = common.internal_hosts();
    let internal_routes = gateway.internal(internal_hosts.clone());
    let console = broker.console(internal_hosts.clone(), local_admin, scheme == "https");
    let internal_routes = internal_routes.merge(broker.internal(internal_hosts, local_admin));
    process.serve_internal(internal, internal_routes.merge(console).merge(ops));
    let sign_in = broker.console_link(&local_admin).await;
    // A full disk is no reason to stop. The command makes another link.
    let sign_in = sign_in.inspect_err(|error| {
        let error = error as &dyn std::error::Error;
        warn!(error, "no link to the console was made");
    });
    let banner = Banner {
        common: &common,
        scheme,
        is_sandboxed,
        api_url: &api_url,
        redirect_uri: redirect_uri.as_ref(),
        first_key: first_key.as_ref(),
        sign_in: sign_in.ok(),
    };
    // It serves whether somebody reads this or not.
    let _ = crate::output::print(&(banner.text() + "\n"));
    let last = async {
        // The broker still takes what the gateway of this process reports.
        gateway.finish_audit().await;
        broker.finish_audit().await;
    };
    process.run(common.shutdown_timeout, last).await
}

/// The settings of `up`, without a start.
pub(super) fn inspect(source: &Layered) -> Inspected {
    let mut overrides = LocalGhl::overrides(source);
    // The gateway of the process asks the broker of the process, at a port that is free then.
    overrides.insert("EVERGREEN_BROKER_URL", "http://127.0.0.1".to_owned());
    let source = Overridden {
        overrides,
        rest: source,
    };
    let mut settings = Settings::new(&source);
    let all = read_all(&mut settings);
    let (api_url, authorities) = inspect::peers(&mut settings);
    let (apps, endpoints) = inspect::of_broker(&all.broker);
    let checked = Checked {
        common: all.common,
        scheme: inspect::scheme(all.tls.is_some()),
        api_url,
        authorities,
        apps,
        is_sandboxed: all.local_ghl.is_some(),
        endpoints,
        place: Place::File { rings: all.rings },
        broker_url: None,
        identity: None,
        journal_max: Some(all.broker.journal_max),
    };
    Inspected {
        reads: settings.reads(),
        settings: settings.finish(checked),
    }
}

/// Registers the key from the settings. Over the real GHL the first start makes one, and returns it.
async fn first_key(
    from_settings: Option<&SecretString>,
    writer: &StoreWriter,
    is_sandboxed: bool,
) -> Result<Option<SecretString>, WriteError> {
    if let Some(key) = from_settings {
        bootstrap_key::register(key, writer).await?;
        return Ok(None);
    }
    let callers = writer.callers().await?;
    let has_callers = callers
        .iter()
        .any(|(_, it)| !it.scopes.contains(&Scope::Admin));
    if is_sandboxed || has_callers {
        return Ok(None);
    }
    let key = writer.create_caller(&bootstrap_key::caller()).await?;
    bootstrap_key::note(&key, writer, "proxy, by the first start").await?;
    Ok(Some(key))
}

/// Reads every setting except the gateway's, which needs the port of the broker.
fn read_all(settings: &mut Settings<'_>) -> All {
    if settings.secret("EVERGREEN_REDIS_URL").is_some() {
        settings.mistake(
            "EVERGREEN_REDIS_URL",
            "is not for `up`, which keeps its store in a file: run `evergreen broker` and \
             `evergreen gateway` over Redis",
        );
    }
    let rings = match (
        key_rings::optional(settings, RingKind::Access),
        key_rings::optional(settings, RingKind::Refresh),
    ) {
        (Some(access), Some(refresh)) => Some(Rings { access, refresh }),
        (None, None) => None,
        // One of them has a mistake of its own.
        _ if RingKind::ALL.map(|kind| key_rings::is_set(settings, kind)) == [true, true] => None,
        (Some(_), None) | (None, Some(_)) => {
            settings.mistake(
                "EVERGREEN_ACCESS_KEYS",
                "and EVERGREEN_REFRESH_KEYS go together: set both, or neither to have them created",
            );
            None
        }
    };
    // The gateway's settings are read again once the port of the broker is known. This reports their
    // mistakes.
    let _ = gateway::Config::read(settings);
    let common = Common::read(settings, 8080, 9080);
    data_dir::check_disk(settings, &common.data_dir);
    let all = All {
        common,
        broker: broker::Config::read(settings),
        local_ghl: LocalGhl::read(settings),
        rings,
        bootstrap_key: bootstrap_key::read(settings),
        lead: redis::lead(settings),
        telemetry: telemetry::Config::read(settings, "evergreen", crate::VERSION),
        tls: ListenerTls::read(settings),
    };
    spelling::refuse_unknown(settings);
    all
}

/// The settings, with some that override the others.
struct Overridden<'a> {
    overrides: HashMap<&'static str, String>,
    rest: &'a Layered,
}

impl Source for Overridden<'_> {
    fn get(&self, key: &str) -> Option<String> {
        let overridden = self.overrides.get(key).cloned();
        overridden.or_else(|| self.rest.get(key))
    }

    fn keys(&self) -> Vec<String> {
        self.rest.keys()
    }

    fn origin(&self, key: &str) -> Option<Origin> {
        match self.overrides.contains_key(key) {
            true => Some(Origin::Program),
            false => self.rest.origin(key),
        }
    }
}
