//! The command line.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as Flags, Parser, Subcommand};

/// Keeps GoHighLevel's OAuth tokens fresh, and forwards calls with them.
///
/// Settings come from flags, then the environment, then a TOML file. docs/settings.md has the table.
/// `evergreen up` needs none of them.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub(crate) struct Args {
    /// A TOML file of settings, under the same names as the environment variables
    #[arg(long, global = true, env = "EVERGREEN_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Everything in one process on this machine; without GHL_CLIENT_ID with a local GHL to try it on
    Up(Serve),
    /// Refreshes tokens and takes consents, over Redis; run as many as you like
    Broker(Serve),
    /// Forwards calls with the current token, over Redis; run as many as you like
    Gateway(Serve),
    /// A local GHL: consent page, token endpoint, API, faults to inject, a ledger of every token
    Sandbox(ServeSandbox),
    /// Look at installations, refresh or end them
    #[command(subcommand)]
    Installations(Installations),
    /// Make, list and revoke the keys of callers
    #[command(subcommand)]
    Keys(Keys),
    /// Fill a store to measure with
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(Debug, Flags)]
pub(crate) struct Serve {
    /// Where callers come in [EVERGREEN_LISTEN]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Where metrics, health, tokens and administration are [EVERGREEN_INTERNAL_LISTEN]
    #[arg(long, value_name = "ADDRESS")]
    pub internal_listen: Option<String>,
    /// Where the journal is, and with `up` the store and its keys [EVERGREEN_DATA_DIR]
    #[arg(long, value_name = "DIRECTORY")]
    pub data_dir: Option<String>,
}

#[derive(Debug, Flags)]
pub(crate) struct ServeSandbox {
    /// Where it listens [EVERGREEN_SANDBOX_LISTEN]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Installations {
    /// All of them
    List,
    /// One, by its id, its location or its company
    Show { installation: String },
    /// Refresh its token now
    Refresh {
        installation: String,
        /// Even if it is invalid: GHL may have refused its token wrongly
        #[arg(long)]
        force: bool,
    },
    /// Stop handing out its token; a consent revives it
    Revoke { installation: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Make a key. It is shown once
    Create {
        /// What to call it: a service, a team
        #[arg(long)]
        name: String,
        /// An installation that it opens; repeat for more [default: all]
        #[arg(long, value_name = "ID")]
        installation: Vec<store::InstallationId>,
        /// What it may do: proxy, tokens, admin, metrics; repeat for more
        #[arg(long, value_name = "SCOPE", default_value = "proxy")]
        scope: Vec<store::Scope>,
        /// When it stops working, such as 90d [default: never]
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        expires_in: Option<Duration>,
        /// How many calls a gateway lets through per interval, such as 100/10s [default: no limit].
        /// The whole quota may go at once; what is spent comes back evenly over the interval. Each
        /// gateway counts by itself: with N of them behind a load balancer the key gets up to N
        /// times as much
        #[arg(long, value_name = "CALLS/INTERVAL")]
        quota: Option<store::Quota>,
    },
    /// All keys that were ever made
    List,
    /// Revoke a key, by its id or the name it was made with
    Revoke { key: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Installations whose tokens the sandbox honours, of all ages as in a fleet that has run for long
    Seed(Seed),
}

#[derive(Debug, Flags)]
pub(crate) struct Seed {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub installations: u64,
    /// How long an access token lives
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = humantime::parse_duration)]
    pub lifetime: Duration,
    /// The picture after no token was refreshed for so long
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    pub overdue: Duration,
    /// Size of an access token
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    pub access_token_bytes: usize,
    /// More, in a store that holds installations already
    #[arg(long)]
    pub add: bool,
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
            Command::Sandbox(serve) => vec![("EVERGREEN_SANDBOX_LISTEN", &serve.listen)],
            Command::Installations(_) | Command::Keys(_) | Command::Bench(_) => Vec::new(),
        };
        let given = flags.into_iter().filter_map(|(key, value)| {
            let value = value.clone()?;
            Some((key.to_owned(), value))
        });
        given.collect()
    }
}
