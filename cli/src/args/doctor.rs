use clap::Args as Flags;

use super::OfApp;

#[derive(Debug, Flags)]
#[command(after_help = examples!(
    "evergreen doctor ve9EPM428h8vShlRW1KT",
    "evergreen doctor org-42 --app staging",
    "evergreen doctor install_00112233445566778899aabb --output json",
))]
pub(crate) struct Doctor {
    /// Its id, its location, its company, its external id, or a tag for all that have it
    pub installation: String,
    #[command(flatten)]
    pub of: OfApp,
}
