use std::time::Duration;

use clap::{Args as Flags, ValueEnum};

use super::help::longer_than_nothing;

#[derive(Debug, Flags)]
#[command(after_help = examples!(
    "evergreen log-level",
    "evergreen log-level info,broker=debug --for 10m",
))]
pub(crate) struct LogLevel {
    /// The filter, such as debug or info,broker=debug [default: show the one that applies]
    pub filter: Option<String>,
    /// How long it applies, such as 10m. After that the filter of the settings does [default: until the process ends]
    #[arg(long = "for", value_name = "DURATION", value_parser = longer_than_nothing, requires = "filter")]
    pub lasts: Option<Duration>,
}

#[derive(Debug, Flags)]
#[command(after_help = examples!(
    "evergreen settings",
    "evergreen settings timeout               # those about timeouts",
    "evergreen settings EVERGREEN_LISTEN --output json",
))]
pub(crate) struct ListSettings {
    /// Only settings with this word in their name, their section or their meaning
    pub word: Option<String>,
    /// Only those of this command
    #[arg(long = "for", value_enum, value_name = "COMMAND")]
    pub command: Option<SettingsOf>,
}

/// A command that reads settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SettingsOf {
    Up,
    Broker,
    Gateway,
    /// Commands that ask a running process or the store
    Cli,
}

#[derive(Debug, Flags)]
#[command(after_help = examples!(
    "evergreen completions bash > /etc/bash_completion.d/evergreen",
    "evergreen completions zsh > \"${fpath[1]}/_evergreen\"",
    "evergreen completions fish > ~/.config/fish/completions/evergreen.fish",
))]
pub(crate) struct Completions {
    /// The shell that completes
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Flags)]
pub(crate) struct ManPages {
    /// The directory, which must exist
    pub directory: std::path::PathBuf,
}
