//! The key rings that seal tokens: from the settings, or created once in the data directory.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use secrecy::SecretString;
use service::config::Settings;
use store::KeyRing;
use store::key_list::RingKind;
use store_writer::{Journal, Rings, StoreWriter};

use crate::exit::Failure;
use crate::secret_file::{self, failed};

const FORMAT_HELP: &str = "`id:base64 of 32 bytes`, comma separated, the first one seals; \
                   `echo \"k1:$(head -c 32 /dev/urandom | base64)\"` creates one";

/// The setting with the command that prints a ring.
const fn command_setting(kind: RingKind) -> &'static str {
    match kind {
        RingKind::Access => "EVERGREEN_ACCESS_KEYS_COMMAND",
        RingKind::Refresh => "EVERGREEN_REFRESH_KEYS_COMMAND",
    }
}

/// The setting that gives a process this ring, if any does. Runs no command.
pub(crate) fn is_set(settings: &mut Settings<'_>, kind: RingKind) -> bool {
    settings.text(command_setting(kind)).is_some() || settings.secret(kind.setting()).is_some()
}

/// A key ring that must be set.
pub(crate) fn required(settings: &mut Settings<'_>, kind: RingKind) -> Arc<KeyRing> {
    let key = kind.setting();
    let ring = match settings.secret_or_command(key, command_setting(kind)) {
        Some(text) => parse(settings, key, &text),
        // The mistake is that of the command.
        None if settings.text(command_setting(kind)).is_some() => None,
        None => {
            settings.mistake(key, format!("is missing: {FORMAT_HELP}"));
            None
        }
    };
    // The placeholder is never used: the mistake prevents the process from starting.
    ring.unwrap_or_else(|| Arc::new(KeyRing::generate("none")))
}

/// A key ring that may be set.
pub(crate) fn optional(settings: &mut Settings<'_>, kind: RingKind) -> Option<Arc<KeyRing>> {
    let key = kind.setting();
    let text = settings.secret_or_command(key, command_setting(kind))?;
    parse(settings, key, &text)
}

fn parse(
    settings: &mut Settings<'_>,
    key: &'static str,
    text: &SecretString,
) -> Option<Arc<KeyRing>> {
    KeyRing::parse(text)
        .map(Arc::new)
        .map_err(|error| {
            settings.mistake(key, format!("is not a key ring: {error} ({FORMAT_HELP})"))
        })
        .ok()
}

/// Refuses to start if the rings do not fit the store. An unreachable store is checked as soon as it answers.
pub(crate) async fn check(writer: &StoreWriter) -> Result<(), Failure> {
    match writer.check_keys().await {
        Ok(()) => Ok(()),
        Err(error) if error.is_unavailable() => Ok(()),
        Err(error) => Err(Failure::unavailable(error)),
    }
}

/// Refuses to start if the refresh ring lacks a key of the journal, and seals anew what the store may not have.
pub(crate) async fn prepare_journal(journal: &Journal, rings: &Rings) -> Result<(), Failure> {
    let prepared = journal.prepare_keys(&rings.refresh).await;
    prepared.map_err(Failure::unavailable)
}

/// Loads the key rings from the data directory.
pub(crate) fn load(data_dir: &Path) -> Result<Rings, Failure> {
    Ok(Rings {
        access: load_ring(&data_dir.join(RingKind::Access.file()))?,
        refresh: load_ring(&data_dir.join(RingKind::Refresh.file()))?,
    })
}

/// Creates the missing files of both key rings, with access only for their owner.
pub(crate) fn create(data_dir: &Path) -> Result<(), Failure> {
    for kind in RingKind::ALL {
        let path = data_dir.join(kind.file());
        if !path.exists() {
            secret_file::create(&path, &KeyRing::generate_text("local"))?;
        }
    }
    Ok(())
}

/// The key ring files that are missing in the data directory.
pub(crate) fn missing(data_dir: &Path) -> Vec<&'static str> {
    let names = RingKind::ALL.map(RingKind::file).into_iter();
    names.filter(|name| !data_dir.join(name).exists()).collect()
}

fn load_ring(path: &Path) -> Result<Arc<KeyRing>, Failure> {
    let text = fs::read_to_string(path).map_err(|error| failed(path, &error))?;
    KeyRing::parse(&SecretString::from(text.trim()))
        .map(Arc::new)
        .map_err(|error| Failure::Unavailable(format!("{}: {error}", path.display())))
}
