use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Apps {
    /// List the apps that the broker knows and those that the store has
    #[command(after_help = examples!("evergreen apps list"))]
    List,
    /// Free a name, so that another app at GHL can have it; only without installations that are refreshed
    #[command(after_help = examples!("evergreen apps free staging"))]
    Free { name: store::AppName },
}
