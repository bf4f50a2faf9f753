//! The local administrator's key. The process keeps it in its data directory, where the command line on the same machine
//! reads it.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use service::shutdown::Shutdown;
use store::audit::Action;
use store::caller::{LOCAL_ADMINISTRATOR, is_well_formed, new_key};
use store::{Caller, KeyHash, Scope, Timestamp};
use store_writer::{StoreWriter, WriteError};
use tracing::{info, warn};

use crate::bootstrap_key;
use crate::exit::Failure;
use crate::secret_file::{self, failed};

const FILE: &str = "admin.key";

/// How often a broker looks whether its store still knows the key. A store can lose writes, or be replaced.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Loads the key of this data directory. The first start makes it.
pub(crate) fn load_or_create(data_dir: &Path) -> Result<SecretString, Failure> {
    let path = data_dir.join(FILE);
    if !path.exists() {
        secret_file::create(&path, &new_key())?;
    }
    load(&path).map_err(|error| failed(&path, &error))
}

/// The key of this data directory, if a process has made one that this user may read.
pub(crate) fn find(data_dir: &Path) -> Option<SecretString> {
    load(&data_dir.join(FILE)).ok()
}

/// Registers the key with the store.
pub(crate) async fn register(key: &SecretString, writer: &StoreWriter) -> Result<(), WriteError> {
    let caller = Caller {
        name: LOCAL_ADMINISTRATOR.to_owned(),
        scopes: vec![Scope::Admin],
        app: None,
        installations: None,
        calls: None,
        quota: None,
        created_at: Timestamp::of_this_machine(),
        expires_at: None,
        revoked_at: None,
    };
    if writer.register_caller(key, &caller).await? {
        info!("registered the key of this machine's administrator");
        let hash = KeyHash::of(key.expose_secret());
        let detail = "admin, of a data directory";
        let noted = writer.audit_key(Action::KeyCreated, &hash, &caller.name, detail);
        noted.await?;
    }
    Ok(())
}

/// Registers this key, and one from the settings, as soon as the store takes writes, and again if the store has lost
/// them.
pub(crate) async fn keep_registered(
    key: SecretString,
    bootstrap_key: Option<SecretString>,
    writer: StoreWriter,
    shutdown: Shutdown,
) {
    loop {
        let registering = async {
            register(&key, &writer).await?;
            match &bootstrap_key {
                Some(key) => bootstrap_key::register(key, &writer).await,
                None => Ok(()),
            }
        };
        let pause = match registering.await {
            Ok(()) => CHECK_INTERVAL,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                warn!(error, "the first keys are not registered yet");
                RETRY_INTERVAL
            }
        };
        tokio::select! {
            () = shutdown.started() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Reads a key. Anything else must not become one: an empty file would be a key that everybody has.
fn load(path: &Path) -> io::Result<SecretString> {
    let text = SecretString::from(fs::read_to_string(path)?.trim());
    if is_well_formed(text.expose_secret()) {
        return Ok(text);
    }
    Err(io::Error::other(
        "this is not a key of evergreen; remove the file, and the next start makes a new one",
    ))
}
