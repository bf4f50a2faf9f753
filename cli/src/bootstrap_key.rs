//! The first caller's key: from the settings, where only the environment can be configured, or made by the first start.

use secrecy::{ExposeSecret, SecretString};
use service::config::Settings;
use store::audit::Action;
use store::{Caller, KeyHash, Scope, Timestamp};
use store_writer::{StoreWriter, WriteError};

/// As many random bits as in a key of ours take at least so many characters.
const MIN_LENGTH: usize = 32;

/// The key from the settings.
pub(crate) fn read(settings: &mut Settings<'_>) -> Option<SecretString> {
    let key = settings.secret("EVERGREEN_BOOTSTRAP_KEY")?;
    let text = key.expose_secret();
    if text.len() < MIN_LENGTH || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        settings.mistake(
            "EVERGREEN_BOOTSTRAP_KEY",
            "must have at least 32 characters, without spaces; \
             `echo \"evg_$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \\n')\"` makes one",
        );
    }
    Some(key)
}

/// Registers the key from the settings. A key that was revoked stays so.
pub(crate) async fn register(key: &SecretString, writer: &StoreWriter) -> Result<(), WriteError> {
    if writer.register_caller(key, &caller()).await? {
        note(key, writer, "proxy, from EVERGREEN_BOOTSTRAP_KEY").await?;
    }
    Ok(())
}

/// Writes the entry of the audit log about the first key.
pub(crate) async fn note(
    key: &SecretString,
    writer: &StoreWriter,
    detail: &str,
) -> Result<(), WriteError> {
    let hash = KeyHash::of(key.expose_secret());
    let name = caller().name;
    let noted = writer.audit_key(Action::KeyCreated, &hash, &name, detail);
    noted.await
}

/// The caller of the first key: it may call GHL for every installation.
pub(crate) fn caller() -> Caller {
    Caller {
        name: "first".to_owned(),
        scopes: vec![Scope::Proxy],
        app: None,
        installations: None,
        calls: None,
        quota: None,
        created_at: Timestamp::of_this_machine(),
        expires_at: None,
        revoked_at: None,
    }
}
