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
use store_writer::group_commit_db::create_atomically;

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

const ACCESS: &str = "access.keys";
const REFRESH: &str = "refresh.keys";

/// The rings in the data directory.
pub(crate) fn kept(data_dir: &Path) -> Result<Rings, Failure> {
    Ok(Rings {
        access: kept_ring(&data_dir.join(ACCESS))?,
        refresh: kept_ring(&data_dir.join(REFRESH))?,
    })
}

/// Makes the files of both rings, for their owner alone. What is there already stays.
pub(crate) fn make(data_dir: &Path) -> Result<(), Failure> {
    for name in [ACCESS, REFRESH] {
        let path = data_dir.join(name);
        if !path.exists() {
            make_ring(&path).map_err(|error| failed(&path, &error))?;
        }
    }
    Ok(())
}

/// The files of rings that are not in the data directory.
pub(crate) fn missing(data_dir: &Path) -> Vec<&'static str> {
    let names = [ACCESS, REFRESH].into_iter();
    names.filter(|name| !data_dir.join(name).exists()).collect()
}

fn make_ring(path: &Path) -> io::Result<()> {
    create_atomically(path, |unfinished| {
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
}

fn kept_ring(path: &Path) -> Result<Arc<KeyRing>, Failure> {
    let text = fs::read_to_string(path).map_err(|error| failed(path, &error))?;
    KeyRing::parse(&SecretString::from(text.trim()))
        .map(Arc::new)
        .map_err(|error| Failure::Unavailable(format!("{}: {error}", path.display())))
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::Unavailable(format!("{}: {error}", path.display()))
}
