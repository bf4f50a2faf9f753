use clap::{Args as Flags, Subcommand, ValueEnum};

#[derive(Debug, Flags)]
#[command(after_help = examples!(
    "evergreen check-store redis://127.0.0.1:6379",
    "evergreen check-store --as gateway rediss://gateway@redis.example:6379",
))]
pub(crate) struct CheckStore {
    /// The store. In an argument other users of the machine see the password [setting: EVERGREEN_REDIS_URL]
    pub url: Option<String>,
    /// The user of the URL
    #[arg(long = "as", value_enum, value_name = "WHO", default_value = "broker")]
    pub role: StoreRole,
}

/// The user of a store whose commands are tried.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum StoreRole {
    /// A broker, at the store
    Broker,
    /// A gateway, at the store
    Gateway,
    /// A broker, at a lock node
    LockNode,
}

#[derive(Debug, Flags)]
#[command(after_help = examples!(
    "evergreen move --dry-run --to redis://127.0.0.1:6379",
    "evergreen move --to redis://127.0.0.1:6379 --data-dir /var/lib/evergreen",
    "evergreen move --undo --to redis://127.0.0.1:6379",
))]
pub(crate) struct MoveStore {
    /// The store to move to, such as redis://broker:PASSWORD@host:6379. Keep a password in a file instead, because
    /// other users of this machine can see flags [settings: EVERGREEN_REDIS_URL, EVERGREEN_REDIS_URL_FILE]
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
    /// The data directory of `up` [setting: EVERGREEN_DATA_DIR] [default: data]
    #[arg(long, value_name = "DIRECTORY")]
    pub data_dir: Option<String>,
    /// Check both stores and count what would be moved, and move nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Take a move back, as long as nobody has used the store there
    #[arg(long, conflicts_with = "dry_run")]
    pub undo: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Seal {
    /// Count the records that need each key
    #[command(after_help = examples!("evergreen seal status", "evergreen seal status --output json"))]
    Status,
    /// Seal every record with the first key of its ring, and say which keys may be removed then
    #[command(after_help = examples!("evergreen seal rotate", "evergreen seal rotate --no-wait"))]
    Rotate {
        /// Do not wait for the end
        #[arg(long)]
        no_wait: bool,
    },
    /// Forget the id of a key that was removed from all rings
    #[command(after_help = examples!("evergreen seal forget k1"))]
    Forget { id: String },
}
