use clap::{Args as Flags, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Events {
    /// List the endpoints, with how many installations have messages that wait
    #[command(after_help = examples!("evergreen events endpoints"))]
    Endpoints,
    /// List the newest events, the newest first
    List(ListEvents),
    /// Send events to an endpoint again
    Resend(Resend),
    /// Send a test message to an endpoint, and say whether it took it; exits with 1 if it did not
    #[command(after_help = examples!("evergreen events test default"))]
    Test {
        /// The endpoint, as `events endpoints` shows it
        endpoint: String,
    },
}

#[derive(Debug, Flags)]
#[command(after_help = examples!(
    "evergreen events list --limit 10",
    "evergreen events list --dead        # what an endpoint did not take",
))]
pub(crate) struct ListEvents {
    /// List messages that an endpoint did not take for 3 days instead
    #[arg(long)]
    pub dead: bool,
    /// The most entries
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

#[derive(Debug, Flags)]
#[command(after_help = examples!(
    "evergreen events resend default evt_0123456789",
    "evergreen events resend default --dead",
))]
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
