//! The sealing rings: from the settings, or made once and kept in the data directory.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use service::config::Settings;
use store::KeyRing;
use store_writer::Rings;
use store_writer::durable::make_whole;

use crate::exit::Failure;

const HOW: &str = "`id:base64 of 32 bytes`, comma separated, the first one seals; \
                   `echo \"k1:$(head -c 32 /dev/urandom | base64)\"` makes one";

/// A ring that must be set.
pub(crate) fn required(settings: &mut Settings<'_>, key: &'static str) -> Arc<KeyRing> {
    let ring = match settings.secret(key) {
        Some(text) => parse(settings, key, &text),
        None => {
            settings.mistake(key, format!("is missing: {HOW}"));
            None
        }
    };
    // Never used where it was made up: the mistake keeps the process from starting.
    ring.unwrap_or_else(|| Arc::new(KeyRing::generate("none")))
}

/// A ring that may be set.
pub(crate) fn optional(settings: &mut Settings<'_>, key: &'static str) -> Option<Arc<KeyRing>> {
    let text = settings.secret(key)?;
    parse(settings, key, &text)
}

fn parse(
    settings: &mut Settings<'_>,
    key: &'static str,
    text: &SecretString,
) -> Option<Arc<KeyRing>> {
    KeyRing::parse(text)
        .map(Arc::new)
        .map_err(|error| settings.mistake(key, format!("is no ring: {error} ({HOW})")))
        .ok()
}

/// The rings in the data directory, made there (for its owner alone) where there are none.
pub(crate) fn kept(data_dir: &Path) -> Result<Rings, Failure> {
    Ok(Rings {
        access: kept_ring(&data_dir.join("access.keys"))?,
        refresh: kept_ring(&data_dir.join("refresh.keys"))?,
    })
}

fn kept_ring(path: &Path) -> Result<Arc<KeyRing>, Failure> {
    let failed = |error: io::Error| Failure::Unavailable(format!("{}: {error}", path.display()));
    if !path.exists() {
        make_whole(path, |unfinished| {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(unfinished)?;
            let made = KeyRing::generate_text("local");
            file.write_all(made.expose_secret().as_bytes())?;
            // What it seals must not outlive it.
            file.sync_all()
        })
        .map_err(failed)?;
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    KeyRing::parse(&SecretString::from(text.trim()))
        .map(Arc::new)
        .map_err(|error| Failure::Unavailable(format!("{}: {error}", path.display())))
}
