use std::path::PathBuf;

use clap::{Args as Flags, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum Installations {
    /// List installations
    List(ListInstallations),
    /// Show one, by its id, its location, its company or its external id; an agency with its locations
    #[command(after_help = examples!(
        "evergreen installations show install_00112233445566778899aabb",
        "evergreen installations show org-42 --app staging",
    ))]
    Show {
        /// Its id, its location, its company or its external id
        installation: String,
        #[command(flatten)]
        of: OfApp,
    },
    /// Refresh its token now
    #[command(after_help = examples!(
        "evergreen installations refresh install_00112233445566778899aabb",
        "evergreen installations refresh install_00112233445566778899aabb --force",
    ))]
    Refresh {
        /// Its id, its location, its company or its external id
        installation: String,
        #[command(flatten)]
        of: OfApp,
        /// Refresh even an invalid installation: GHL may have refused its token wrongly
        #[arg(long)]
        force: bool,
    },
    /// Stop serving its token, and those of an agency's locations; a new consent activates it again
    #[command(after_help = examples!(
        "evergreen installations revoke install_00112233445566778899aabb",
        "evergreen installations revoke org-42 --yes",
    ))]
    Revoke {
        /// Its id, its location, its company or its external id
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
    #[command(after_help = examples!(
        "evergreen installations tag org-42 --set trial,vip",
        "evergreen installations tag install_00112233445566778899aabb --external-id org-42",
    ))]
    Tag(crate::installations::customers::Tag),
    /// Uninstall the app at GHL, and delete the installation and those of an agency's locations
    #[command(after_help = examples!(
        "evergreen installations delete org-42",
        "evergreen installations delete org-42 --yes",
    ))]
    Delete {
        /// Its id, its location, its company or its external id
        installation: String,
        #[command(flatten)]
        of: OfApp,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Make a one-time link with which a customer connects
    #[command(after_help = examples!(
        "evergreen installations connect-link --external-id org-42 --tag trial",
        "evergreen installations connect-link --expires-in 2h --quiet",
    ))]
    ConnectLink(crate::installations::customers::ConnectLink),
    /// Make a one-time link with which a customer connects again
    #[command(after_help = examples!("evergreen installations reconnect-link org-42"))]
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
#[command(after_help = examples!(
    "evergreen installations import tokens.json --dry-run",
    "evergreen installations import tokens.json --verify",
    "cat tokens.json | evergreen installations import -",
))]
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
#[command(after_help = examples!(
    "evergreen installations export --with-tokens --out installations.jsonl",
))]
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
#[command(after_help = examples!(
    "evergreen installations add-token --location ve9EPM428h8vShlRW1KT < token.txt",
))]
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
#[command(after_help = examples!(
    "evergreen installations list",
    "evergreen installations list --status invalid --output json",
    "evergreen installations list --sort expires --limit 10",
    "evergreen installations list --tag trial --quiet",
    "evergreen installations list --search northwind",
))]
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
    /// Only those that have this as a part of an id, a tag or the company's name, in any case. If it is exactly an id or a
    /// tag, only those that have it
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
    /// The order [default: that of the store]. At most 10,000 installations are sorted: filter more than that
    #[arg(long, value_enum, value_name = "BY")]
    pub sort: Option<Order>,
    /// The most installations [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
}

/// The order of installations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    /// The soonest to expire first
    Expires,
    /// The last refreshed first
    Updated,
    /// By location or company
    Name,
}
