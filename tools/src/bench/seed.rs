//! `evergreen-tools bench seed`.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use store::KeyRing;
use store::freshness::Lead;
use store_writer::Rings;
use tests::seed::{ACCESS_TOKEN_BYTES, Seed};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store
    #[arg(
        long,
        value_name = "URL",
        env = "EVERGREEN_REDIS_URL",
        hide_env_values = true
    )]
    redis_url: SecretString,
    /// The key ring of access tokens
    #[arg(
        long,
        value_name = "KEYS",
        env = "EVERGREEN_ACCESS_KEYS",
        hide_env_values = true
    )]
    access_keys: SecretString,
    /// The key ring of refresh tokens
    #[arg(
        long,
        value_name = "KEYS",
        env = "EVERGREEN_REFRESH_KEYS",
        hide_env_values = true
    )]
    refresh_keys: SecretString,
    /// The client id of the sandbox
    #[arg(long, env = "EVERGREEN_SANDBOX_CLIENT_ID")]
    client_id: Option<String>,
    /// The client secret of the sandbox
    #[arg(long, env = "EVERGREEN_SANDBOX_CLIENT_SECRET", hide_env_values = true)]
    client_secret: Option<SecretString>,
    /// How long before its expiry a token falls due: auto, or a duration such as 5m
    #[arg(long, env = "EVERGREEN_REFRESH_LEAD", default_value = "auto")]
    lead: Lead,
    /// How many installations
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    installations: u64,
    /// How long an access token lives
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = humantime::parse_duration)]
    lifetime: Duration,
    /// Seed the state after no token was refreshed for this long
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    overdue: Duration,
    /// The size of an access token
    #[arg(long, value_name = "BYTES", default_value_t = ACCESS_TOKEN_BYTES)]
    access_token_bytes: usize,
    /// Add to a store that holds installations already
    #[arg(long)]
    add: bool,
}

pub(crate) async fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let seed = Seed {
        installations: args.installations,
        lifetime: args.lifetime,
        overdue: args.overdue,
        access_token_bytes: args.access_token_bytes,
        add: args.add,
        lead: args.lead,
    };
    let rings = Rings {
        access: Arc::new(KeyRing::parse(&args.access_keys)?),
        refresh: Arc::new(KeyRing::parse(&args.refresh_keys)?),
    };
    let default = sandbox::Config::default();
    let sandbox = sandbox::Config {
        client_id: args.client_id.clone().unwrap_or(default.client_id.clone()),
        client_secret: args
            .client_secret
            .clone()
            .unwrap_or(default.client_secret.clone()),
        ..default
    };
    println!("{}", seed.fill(&args.redis_url, rings, &sandbox).await?);
    Ok(())
}
