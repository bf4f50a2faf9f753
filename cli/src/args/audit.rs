use clap::Args as Flags;

#[derive(Debug, Flags)]
#[command(after_help = examples!(
    "evergreen audit",
    "evergreen audit --key shop --limit 200",
    "evergreen audit --installation install_00112233445566778899aabb",
    "evergreen audit --action key_created --output json",
))]
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
}
