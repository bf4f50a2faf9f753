use clap::{Args as Flags, Subcommand};

use crate::role::Role;

#[derive(Debug, Flags)]
#[command(after_help = examples!(
    "evergreen check",
    "evergreen check --as broker --config /etc/evergreen/broker.toml",
    "evergreen check --output json",
))]
pub(crate) struct Check {
    /// The process that the settings are for [default: guessed from them]
    #[arg(long = "as", value_enum, value_name = "COMMAND")]
    pub role: Option<Role>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Print the settings that are set, with their sources and without secrets, as a settings file
    Print(ConfigPrint),
}

#[derive(Debug, Flags)]
#[command(after_help = examples!(
    "evergreen config print",
    "evergreen config print --all --as gateway",
    "evergreen config print --output json",
))]
pub(crate) struct ConfigPrint {
    /// The process that the settings are for [default: guessed from them]
    #[arg(long = "as", value_enum, value_name = "COMMAND")]
    pub role: Option<Role>,
    /// Also those that are not set, with their defaults
    #[arg(long)]
    pub all: bool,
}
