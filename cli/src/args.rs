//! The command line.

#[macro_use]
mod help;
mod apps;
mod audit;
mod check;
mod doctor;
mod events;
mod installations;
mod keys;
mod process;
mod serve;
mod store;

use std::collections::HashMap;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub(crate) use apps::Apps;
pub(crate) use audit::Audit;
pub(crate) use check::{Check, Config, ConfigPrint};
pub(crate) use doctor::Doctor;
pub(crate) use events::{Events, Resend};
pub(crate) use help::FIRST_STEPS;
pub(crate) use installations::{
    AddToken, Export, Import, Installations, ListInstallations, OfApp, Order,
};
pub(crate) use keys::{CreateKey, KeyOrder, Keys, ListKeys};
pub(crate) use process::{Completions, ListSettings, LogLevel, ManPages, SettingsOf};
pub(crate) use store::{CheckStore, MoveStore, Seal, StoreRole};

use crate::output::OutputFlags;
use serve::Given;

/// Keeps GoHighLevel's OAuth tokens fresh, and forwards calls with them.
///
/// Settings come from flags, then the environment, then a TOML file. `evergreen settings` lists them.
#[derive(Debug, Parser)]
#[command(
    name = "evergreen",
    version = crate::VERSION,
    propagate_version = true,
    subcommand_required = false,
    after_help = "`evergreen help COMMAND` has examples. `evergreen` alone says how to begin.",
    after_long_help = help::EXIT_CODES,
)]
pub(crate) struct Args {
    /// A TOML file of settings, under the same names as the environment variables
    #[arg(
        long,
        global = true,
        env = "EVERGREEN_CONFIG",
        help_heading = "Global options",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub output: OutputFlags,
    #[command(subcommand)]
    pub command: Option<Command>,
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
    Up(serve::Up),
    /// Refresh tokens and accept consents, over Redis; run as many as you like
    Broker(serve::Broker),
    /// Forward calls with the current token, over Redis; run as many as you like
    Gateway(serve::Gateway),
    /// Run a local GHL: consent page, token endpoint, API, fault injection, a ledger of every token
    #[cfg(feature = "sandbox")]
    Sandbox(serve::Sandbox),
    /// Say what is wrong and what to do about it, with the numbers of the last day; exits with 1 if a problem loses calls or
    /// installations
    #[command(after_help = examples!("evergreen status", "evergreen status --output json", "evergreen status --quiet"))]
    Status,
    /// List, show, connect, change, refresh, revoke, delete, import or export installations
    #[command(subcommand)]
    Installations(Installations),
    /// Say why an installation does not work, and what to do; exits with 1 if something must be done
    Doctor(Doctor),
    /// List the apps at GHL, or free the name of one
    #[command(subcommand)]
    Apps(Apps),
    /// Create, list, rotate and revoke the keys of callers
    #[command(subcommand)]
    Keys(Keys),
    /// Print a link that signs in to the web console once, within 15 minutes
    #[command(after_help = examples!("evergreen console", "evergreen console --quiet"))]
    Console,
    /// Show who fetched tokens, and who changed keys and installations, the newest first
    Audit(Audit),
    /// Show events and their endpoints, send events again, and test an endpoint
    #[command(subcommand)]
    Events(Events),
    /// Count what each sealing key still opens, and rotate the sealing keys
    #[command(subcommand)]
    Seal(Seal),
    /// List all settings, with their defaults and their meaning
    Settings(ListSettings),
    /// Show or change the log filter of the process at EVERGREEN_ADMIN_URL while it runs
    LogLevel(LogLevel),
    /// Move the store of a stopped `up` from its file to Redis, for brokers and gateways
    Move(MoveStore),
    /// Ask the process of this container or machine whether it is ready (/readyz); exits with 0 if it is, else with 1
    #[command(after_help = examples!("evergreen healthcheck"))]
    Healthcheck,
    /// Try each command, script and channel that evergreen needs of a store in Redis, on keys of its own that expire, and
    /// say what is missing and what is lost without it
    CheckStore(CheckStore),
    /// Print the documentation of all routes (OpenAPI 3.1)
    #[command(after_help = examples!("evergreen openapi > openapi.json"))]
    Openapi,
    /// Check the settings and all that they name, before a start or beside a running process: store, lock nodes, sealing
    /// keys, disk, GHL, redirect URI, clock, listeners, certificates
    Check(Check),
    /// Print the settings as a process reads them
    #[command(subcommand)]
    Config(Config),
    /// Print the completions of a shell
    Completions(Completions),
    /// Write the man pages of all commands to a directory, for packages
    #[command(hide = true)]
    Man(ManPages),
}

impl Args {
    /// The flags as settings.
    pub(crate) fn flags(&self) -> HashMap<String, String> {
        let flags = self.command.as_ref().map(Command::flags);
        let given = flags.into_iter().flatten().filter_map(|(key, value)| {
            let value = value.clone()?;
            Some((key.to_owned(), value))
        });
        given.collect()
    }
}

impl Command {
    /// Whether the names of settings are checked by the command itself. Other commands only warn.
    pub(crate) fn checks_names(&self) -> bool {
        #[cfg(feature = "sandbox")]
        if matches!(self, Self::Sandbox(_)) {
            return true;
        }
        matches!(
            self,
            Self::Up(_) | Self::Broker(_) | Self::Gateway(_) | Self::Check(_) | Self::Config(_)
        )
    }

    fn flags(&self) -> Given<'_> {
        match self {
            Self::Up(serve) => serve.settings(),
            Self::Broker(serve) => serve.settings(),
            Self::Gateway(serve) => serve.settings(),
            #[cfg(feature = "sandbox")]
            Self::Sandbox(serve) => vec![("EVERGREEN_SANDBOX_LISTEN", &serve.listen)],
            Self::Move(what) => vec![
                ("EVERGREEN_REDIS_URL", &what.to),
                ("EVERGREEN_DATA_DIR", &what.data_dir),
            ],
            Self::CheckStore(what) => vec![("EVERGREEN_REDIS_URL", &what.url)],
            Self::Installations(_)
            | Self::Doctor(_)
            | Self::Apps(_)
            | Self::Healthcheck
            | Self::Console
            | Self::Status
            | Self::Keys(_)
            | Self::Audit(_)
            | Self::Events(_)
            | Self::Seal(_)
            | Self::Settings(_)
            | Self::LogLevel(_)
            | Self::Openapi
            | Self::Check(_)
            | Self::Config(_)
            | Self::Completions(_)
            | Self::Man(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
