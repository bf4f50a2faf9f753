//! The command line.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as Flags, Parser, Subcommand, ValueEnum};

/// Keeps GoHighLevel's OAuth tokens fresh, and forwards calls with them.
///
/// Settings come from flags, then the environment, then a TOML file. docs/settings.md lists them.
#[derive(Debug, Parser)]
#[command(
    name = "evergreen",
    version = crate::VERSION,
    propagate_version = true
)]
pub(crate) struct Args {
    /// A TOML file of settings, under the same names as the environment variables
    #[arg(long, global = true, env = "EVERGREEN_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[cfg_attr(
        feature = "sandbox",
        doc = "Run everything in one process on this machine; without GHL_CLIENT_ID with a local GHL to \
               try it on"
    )]
    #[cfg_attr(
        not(feature = "sandbox"),
        doc = "Run everything in one process on this machine"
    )]
    Up(Serve),
    /// Refresh tokens and accept consents, over Redis; run as many as you like
    Broker(Serve),
    /// Forward calls with the current token, over Redis; run as many as you like
    Gateway(Serve),
    /// Run a local GHL: consent page, token endpoint, API, fault injection, a ledger of every token
    #[cfg(feature = "sandbox")]
    Sandbox(ServeSandbox),
    /// List, show, connect, change, refresh, revoke, delete, import or export installations
    #[command(subcommand)]
    Installations(Installations),
    /// List the apps at GHL, or free the name of one
    #[command(subcommand)]
    Apps(Apps),
    /// Create, list, rotate and revoke the keys of callers
    #[command(subcommand)]
    Keys(Keys),
    /// Print a link that signs in to the web console once
    Console,
    /// Show who fetched tokens, and who changed keys and installations, the newest first
    Audit(Audit),
    /// Show events and their endpoints, send events again, and test an endpoint
    #[command(subcommand)]
    Events(Events),
    /// Count what each sealing key still opens, and rotate the sealing keys
    #[command(subcommand)]
    Seal(Seal),
    /// Show or change the log filter of the process at EVERGREEN_ADMIN_URL while it runs
    LogLevel(LogLevel),
    /// Move the store of a stopped `up` from its file to Redis, for brokers and gateways
    Move(MoveStore),
    /// Ask the process of this container or machine whether it is ready (/readyz); exits with 0 if it is, else with 1
    Healthcheck,
    /// Try each command, script and channel that evergreen needs of a store in Redis, on keys of its own that expire, and
    /// say what is missing and what is lost without it
    CheckStore(CheckStore),
    /// Print the documentation of all routes (OpenAPI 3.1)
    Openapi,
}

#[derive(Debug, Flags)]
pub(crate) struct CheckStore {
    /// The store. In an argument other users of the machine see the password [EVERGREEN_REDIS_URL]
    pub url: Option<String>,
    /// The user of the URL
    #[arg(long = "as", value_enum, value_name = "WHO", default_value = "broker")]
    pub role: StoreRole,
}

/// The user of a store whose commands are tried.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum StoreRole {
    /// A broker, at the store
    Broker,
    /// A gateway, at the store
    Gateway,
    /// A broker, at a lock node
    LockNode,
}

#[derive(Debug, Flags)]
pub(crate) struct Serve {
    /// The address for callers [EVERGREEN_LISTEN]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// The address for metrics, health, tokens and administration [EVERGREEN_INTERNAL_LISTEN]
    #[arg(long, value_name = "ADDRESS")]
    pub internal_listen: Option<String>,
    /// The directory of the journal, and with `up` of the store and its keys [EVERGREEN_DATA_DIR]
    #[arg(long, value_name = "DIRECTORY")]
    pub data_dir: Option<String>,
}

#[cfg(feature = "sandbox")]
#[derive(Debug, Flags)]
pub(crate) struct ServeSandbox {
    /// Its address [EVERGREEN_SANDBOX_LISTEN]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Installations {
    /// List installations
    List(ListInstallations),
    /// Show one, by its id, its location, its company or its external id; an agency with its locations
    Show {
        installation: String,
        #[command(flatten)]
        of: OfApp,
    },
    /// Refresh its token now
    Refresh {
        installation: String,
        #[command(flatten)]
        of: OfApp,
        /// Refresh even an invalid installation: GHL may have refused its token wrongly
        #[arg(long)]
        force: bool,
    },
    /// Stop serving its token, and those of an agency's locations; a new consent activates it again
    Revoke {
        installation: String,
        #[command(flatten)]
        of: OfApp,
        /// Do not ask whether the locations of an agency are to end, too
        #[arg(long)]
        yes: bool,
    },
    /// Store a private integration token, which is read from stdin; it replaces the earlier one. GHL lets the earlier one
    /// work for up to 7 days if you ask it to when you rotate
    AddToken(AddToken),
    /// Import tokens that another backend has kept, from a JSON array, one row a line, or a map of location ids to tokens.
    /// Repeat it at any time; a row that is not newer than the stored token changes nothing
    Import(Import),
    /// Write all installations and their tokens to a file, for another system. `import` takes the same file
    Export(Export),
    /// Change the tags or the external id of one
    Tag(crate::installations::customers::Tag),
    /// Uninstall the app at GHL, and delete the installation and those of an agency's locations
    Delete {
        installation: String,
        #[command(flatten)]
        of: OfApp,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Make a one-time link with which a customer connects
    ConnectLink(crate::installations::customers::ConnectLink),
    /// Make a one-time link with which a customer connects again
    ReconnectLink(crate::installations::customers::ReconnectLink),
}

/// The app of an installation that is named by its location or company.
#[derive(Debug, Clone, Flags)]
pub(crate) struct OfApp {
    /// The app, if the location or company has several
    #[arg(long, value_name = "NAME")]
    pub app: Option<store::AppName>,
}

#[derive(Debug, Flags)]
pub(crate) struct Import {
    /// The file, or - for stdin
    pub file: PathBuf,
    /// The app of all rows [default: the one that each row names, or else the default one]
    #[arg(long, value_name = "NAME")]
    pub app: Option<store::AppName>,
    /// Say what would happen, and change nothing
    #[arg(long, conflicts_with = "verify")]
    pub dry_run: bool,
    /// Refresh each imported installation once, so that you know that its refresh token works
    #[arg(long)]
    pub verify: bool,
    /// The most refreshes a second of --verify
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub verify_rate: u32,
}

#[derive(Debug, Flags)]
pub(crate) struct Export {
    /// Export the tokens, in clear text
    #[arg(long)]
    pub with_tokens: bool,
    /// The file. Only its owner may read it
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    pub overwrite: bool,
    /// Only installations of this app
    #[arg(long, value_name = "NAME")]
    pub app: Option<store::AppName>,
}

#[derive(Debug, Flags)]
pub(crate) struct AddToken {
    /// The app that it is kept under
    #[arg(long, value_name = "NAME", default_value = store::AppName::DEFAULT)]
    pub app: store::AppName,
    /// The location that it is of
    #[arg(long, value_name = "ID", required_unless_present = "company")]
    pub location: Option<store::LocationId>,
    /// The agency that it is of, instead of a location
    #[arg(long, value_name = "ID", conflicts_with = "location")]
    pub company: Option<store::CompanyId>,
}

#[derive(Debug, Default, Flags)]
pub(crate) struct ListInstallations {
    /// Only installations of this app
    #[arg(long, value_name = "NAME")]
    pub app: Option<store::AppName>,
    /// Only installations of this company
    #[arg(long, value_name = "ID")]
    pub company: Option<String>,
    /// Only locations whose tokens come from the grant of this agency: its id, or that of its company
    #[arg(long, value_name = "ID")]
    pub parent: Option<String>,
    /// Only installations whose token has this status, such as valid, asleep, invalid, revoked or unclaimed (of an app that
    /// the broker does not know)
    #[arg(long, value_name = "STATUS")]
    pub status: Option<String>,
    /// Only installations with this tag
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
    /// Only those with this external id, one for each app
    #[arg(long, value_name = "ID")]
    pub external_id: Option<String>,
    /// Only those of this location, one for each app
    #[arg(long, value_name = "ID")]
    pub location: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Apps {
    /// List the apps that the broker knows and those that the store has
    List,
    /// Free a name, so that another app at GHL can have it; only without installations that are refreshed
    Free { name: store::AppName },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Create a key. It is shown once
    Create {
        /// Its name, such as that of a service or a team
        #[arg(long)]
        name: String,
        /// The app whose installations it may use [default: those of all apps]
        #[arg(long, value_name = "NAME")]
        app: Option<store::AppName>,
        /// An installation that it may use; repeat for more [default: all]
        #[arg(long, value_name = "ID")]
        installation: Vec<store::InstallationId>,
        /// A call to GHL that it may make, such as 'GET /contacts/*'; repeat for more [default: all].
        /// Methods are separated by commas, * is all of them; /* at the end includes the paths below
        #[arg(long, value_name = "METHODS PATH")]
        allow: Vec<store::AllowedCall>,
        /// Its scopes: proxy, tokens, connect (for a backend: one-time links, browser keys, user contexts), admin,
        /// view (see the console), metrics; repeat for more
        #[arg(long, value_name = "SCOPE", default_value = "proxy")]
        scope: Vec<store::Scope>,
        /// When it expires, such as 90d [default: never]
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        expires_in: Option<Duration>,
        /// The calls per interval that a gateway admits, such as 100/10s [default: no limit].
        /// The whole quota may be used at once, and it refills evenly over the interval. Each
        /// gateway counts on its own: with N of them behind a load balancer the key gets up to N
        /// times as much
        #[arg(long, value_name = "CALLS/INTERVAL")]
        quota: Option<store::Quota>,
    },
    /// List all keys, also expired and revoked ones
    List,
    /// Make a key's successor, which may do the same. The old key, named by its id or its name, ends later
    Rotate {
        key: String,
        /// How long the old key still works, so that its caller has time to change over
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = humantime::parse_duration)]
        overlap: Duration,
    },
    /// Revoke a key, by its id or its name
    Revoke { key: String },
}

#[derive(Debug, Flags)]
pub(crate) struct Audit {
    /// Only entries about this installation: its id, its location or its company
    #[arg(long, value_name = "ID")]
    pub installation: Option<String>,
    /// The app of this location or company, if it has several
    #[arg(long, value_name = "NAME")]
    pub app: Option<store::AppName>,
    /// Only entries by or about this key: its name, or its id as `keys list` shows it
    #[arg(long, value_name = "NAME-OR-ID")]
    pub key: Option<String>,
    /// Only entries with this action, such as key_revoked
    #[arg(long, value_name = "ACTION")]
    pub action: Option<String>,
    /// The most entries
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// How they are shown
    #[arg(long, default_value = "table")]
    pub output: Output,
}

#[derive(Debug, Flags)]
pub(crate) struct LogLevel {
    /// The filter, such as debug or info,broker=debug [default: show the one that applies]
    pub filter: Option<String>,
    /// How long it applies, such as 10m. After that the filter of the settings does [default: until the process ends]
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration, requires = "filter")]
    pub lasts: Option<Duration>,
}

#[derive(Debug, Flags)]
pub(crate) struct MoveStore {
    /// The store to move to, such as redis://broker:PASSWORD@host:6379. Keep a password in a file instead, because
    /// other users of this machine can see flags [EVERGREEN_REDIS_URL, EVERGREEN_REDIS_URL_FILE]
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
    /// The data directory of `up` [EVERGREEN_DATA_DIR]
    #[arg(long, value_name = "DIRECTORY")]
    pub data_dir: Option<String>,
    /// Check both stores and count what would be moved, and move nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Take a move back, as long as nobody has used the store there
    #[arg(long, conflicts_with = "dry_run")]
    pub undo: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Events {
    /// List the endpoints, with how many installations have messages that wait
    Endpoints,
    /// List the newest events, the newest first
    List(ListEvents),
    /// Send events to an endpoint again
    Resend(Resend),
    /// Send a test message to an endpoint, and say whether it took it
    Test { endpoint: String },
}

#[derive(Debug, Flags)]
pub(crate) struct ListEvents {
    /// List messages that an endpoint did not take for 3 days instead
    #[arg(long)]
    pub dead: bool,
    /// The most entries
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

#[derive(Debug, Flags)]
pub(crate) struct Resend {
    /// The endpoint, as `events endpoints` shows it
    pub endpoint: String,
    /// The ids of events
    #[arg(value_name = "ID", required_unless_present = "dead")]
    pub events: Vec<String>,
    /// Send the oldest 1000 dead letters of the endpoint
    #[arg(long, conflicts_with = "events")]
    pub dead: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Seal {
    /// Count the records that need each key
    Status {
        /// How it is shown
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Seal every record with the first key of its ring, and say which keys may be removed then
    Rotate {
        /// Do not wait for the end
        #[arg(long)]
        no_wait: bool,
    },
    /// Forget the id of a key that was removed from all rings
    Forget { id: String },
}

/// How a result is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
}

impl Args {
    /// The flags as settings.
    pub(crate) fn flags(&self) -> HashMap<String, String> {
        let flags = match &self.command {
            Command::Up(serve) | Command::Broker(serve) | Command::Gateway(serve) => vec![
                ("EVERGREEN_LISTEN", &serve.listen),
                ("EVERGREEN_INTERNAL_LISTEN", &serve.internal_listen),
                ("EVERGREEN_DATA_DIR", &serve.data_dir),
            ],
            #[cfg(feature = "sandbox")]
            Command::Sandbox(serve) => vec![("EVERGREEN_SANDBOX_LISTEN", &serve.listen)],
            Command::Move(what) => vec![
                ("EVERGREEN_REDIS_URL", &what.to),
                ("EVERGREEN_DATA_DIR", &what.data_dir),
            ],
            Command::CheckStore(what) => vec![("EVERGREEN_REDIS_URL", &what.url)],
            Command::Installations(_)
            | Command::Apps(_)
            | Command::Console
            | Command::Healthcheck
            | Command::Keys(_)
            | Command::Audit(_)
            | Command::Events(_)
            | Command::Seal(_)
            | Command::LogLevel(_)
            | Command::Openapi => Vec::new(),
        };
        let given = flags.into_iter().filter_map(|(key, value)| {
            let value = value.clone()?;
            Some((key.to_owned(), value))
        });
        given.collect()
    }
}
