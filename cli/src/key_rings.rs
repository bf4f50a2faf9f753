//! The key rings that seal tokens: from the settings, or created once in the data directory.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use secrecy::SecretString;
use service::config::Settings;
use store::KeyRing;
use store_writer::Rings;

use crate::exit::Failure;
use crate::secret_file::{self, failed};

const FORMAT_HELP: &str = "`id:base64 of 32 bytes`, comma separated, the first one seals; \
                   `echo \"k1:$(head -c 32 /dev/urandom | base64)\"` creates one";

/// A key ring that must be set.
pub(crate) fn required(settings: &mut Settings<'_>, key: &'static str) -> Arc<KeyRing> {
    let ring = match settings.secret(key) {
        Some(text) => parse(settings, key, &text),
        None => {
            settings.mistake(key, format!("is missing: {FORMAT_HELP}"));
            None
        }
    };
    // The placeholder is never used: the mistake prevents the process from starting.
    ring.unwrap_or_else(|| Arc::new(KeyRing::generate("none")))
}

/// A key ring that may be set.
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
        .map_err(|error| {
            settings.mistake(key, format!("is not a key ring: {error} ({FORMAT_HELP})"))
        })
        .ok()
}

const ACCESS: &str = "access.keys";
const REFRESH: &str = "refresh.keys";

/// Loads the key rings from the data directory.
pub(crate) fn load(data_dir: &Path) -> Result<Rings, Failure> {
    Ok(Rings {
        access: load_ring(&data_dir.join(ACCESS))?,
        refresh: load_ring(&data_dir.join(REFRESH))?,
    })
}

/// Creates the missing files of both key rings, with access only for their owner.
pub(crate) fn create(data_dir: &Path) -> Result<(), Failure> {
    for name in [ACCESS, REFRESH] {
        let path = data_dir.join(name);
        if !path.exists() {
            secret_file::create(&path, &KeyRing::generate_text("local"))?;
        }
    }
    Ok(())
}

/// The key ring files that are missing in the data directory.
pub(crate) fn missing(data_dir: &Path) -> Vec<&'static str> {
    let names = [ACCESS, REFRESH].into_iter();
    names.filter(|name| !data_dir.join(name).exists()).collect()
}

fn load_ring(path: &Path) -> Result<Arc<KeyRing>, Failure> {
    let text = fs::read_to_string(path).map_err(|error| failed(path, &error))?;
    KeyRing::parse(&SecretString::from(text.trim()))
        .map(Arc::new)
        .map_err(|error| Failure::Unavailable(format!("{}: {error}", path.display())))
}
