//! Opening a store: one constructor, two backends, two handles.

use std::path::Path;
use std::sync::Arc;

use secrecy::SecretString;
use store::connection::{Address, BadAddress, Link};
use store::freshness::Lead;
use store::record::access_label;
use store::seal::{KeyRing, Label, Sealed};
use store::{Generation, InstallationId, TokenReader};

use crate::backend::embedded::Embedded;
use crate::backend::redis::RedisBackend;
use crate::durable::DurableError;
use crate::writer::StoreWriter;

/// The two sealing rings. Gateways get the first one only.
#[derive(Debug, Clone)]
pub struct Rings {
    pub access: Arc<KeyRing>,
    pub refresh: Arc<KeyRing>,
}

impl Rings {
    pub(crate) fn seal_access(
        &self,
        id: &InstallationId,
        generation: Generation,
        token: &SecretString,
    ) -> Sealed {
        self.access.seal_token(access_label(id, generation), token)
    }

    pub(crate) fn seal_refresh(&self, label: Label<'_>, token: &SecretString) -> Sealed {
        self.refresh.seal_token(label, token)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Address(#[from] BadAddress),
    #[error(transparent)]
    File(#[from] DurableError),
}

/// Both halves of one store.
#[derive(Debug)]
pub struct Store {
    pub writer: StoreWriter,
    pub reader: TokenReader,
}

impl Store {
    /// The store at a URL as [`Address::parse`] reads it. Connects when first used.
    ///
    /// # Errors
    /// When the URL is malformed.
    pub fn redis(url: &SecretString, rings: Rings, lead: Lead) -> Result<Self, OpenError> {
        Self::replicated(url, 0, rings, lead)
    }

    /// As [`Store::redis`]; what must not be lost counts as written once it is on this many
    /// replicas.
    ///
    /// # Errors
    /// When the URL is malformed.
    pub fn replicated(
        url: &SecretString,
        replicas: usize,
        rings: Rings,
        lead: Lead,
    ) -> Result<Self, OpenError> {
        let link = Link::to(Address::parse(url)?)?;
        let backend = RedisBackend::new(link.clone(), replicas)?;
        let reader = TokenReader::on(link, rings.access.clone());
        Ok(Self {
            writer: StoreWriter::new(Arc::new(backend), rings, lead),
            reader,
        })
    }

    /// The store in `store.redb` in the directory, which must exist. One process at a time.
    ///
    /// # Errors
    /// When another process has it open, or it cannot be opened.
    pub fn embedded(directory: &Path, rings: Rings, lead: Lead) -> Result<Self, OpenError> {
        let backend = Arc::new(Embedded::open(&directory.join("store.redb"))?);
        let reader = TokenReader::over(backend.clone(), rings.access.clone());
        Ok(Self {
            writer: StoreWriter::new(backend, rings, lead),
            reader,
        })
    }
}

/// A new directory for a test.
#[cfg(test)]
pub(crate) fn scratch_directory() -> std::path::PathBuf {
    let name = format!("evergreen-test-{}", store::random::hex::<8>());
    let directory = std::env::temp_dir().join(name);
    std::fs::create_dir(&directory).unwrap();
    directory
}
