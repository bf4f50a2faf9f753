//! Opens a store: two backends, and a writer and a reader for each.

use std::path::Path;
use std::sync::Arc;

use secrecy::SecretString;
use store::TokenReader;
use store::connection::{Address, BadAddress, RedisClient};
use store::freshness::Lead;

use crate::backend::embedded::EmbeddedBackend;
use crate::backend::redis::RedisBackend;
use crate::group_commit_db::DbError;
use crate::rings::Rings;
use crate::writer::StoreWriter;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// The URL is malformed.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// The database file cannot be opened.
    #[error(transparent)]
    File(#[from] DbError),
}

/// The writer and the reader of one store.
#[derive(Debug)]
pub struct Store {
    /// Writes token state. Brokers only.
    pub writer: StoreWriter,
    /// Reads access tokens and callers.
    pub reader: TokenReader,
}

impl Store {
    /// The store at a URL of the form that [`Address::parse`] reads. Connects at first use.
    ///
    /// # Errors
    /// When the URL is malformed.
    pub fn redis(url: &SecretString, rings: Rings, lead: Lead) -> Result<Self, OpenStoreError> {
        Self::replicated(url, 0, rings, lead)
    }

    /// As [`Store::redis`]. A write that must not be lost counts as written once it is on this many replicas.
    ///
    /// # Errors
    /// When the URL is malformed.
    pub fn replicated(
        url: &SecretString,
        replicas: usize,
        rings: Rings,
        lead: Lead,
    ) -> Result<Self, OpenStoreError> {
        Self::at(Address::parse(url)?, replicas, rings, lead)
    }

    /// As [`Store::replicated`], of the store at this address.
    ///
    /// # Errors
    /// When the address' settings contradict each other.
    pub fn at(
        address: Address,
        replicas: usize,
        rings: Rings,
        lead: Lead,
    ) -> Result<Self, OpenStoreError> {
        let client = RedisClient::open(address)?;
        let backend = RedisBackend::new(client.clone(), replicas)?;
        let reader = TokenReader::from_client(client, rings.access.clone());
        Ok(Self {
            writer: StoreWriter::new(Arc::new(backend), rings, lead),
            reader,
        })
    }

    /// The store in `store.redb` in an existing directory. One process at a time.
    ///
    /// # Errors
    /// When another process has the file open, or it cannot be opened.
    pub fn embedded(directory: &Path, rings: Rings, lead: Lead) -> Result<Self, OpenStoreError> {
        let backend = Arc::new(EmbeddedBackend::open(&directory.join("store.redb"))?);
        let reader = TokenReader::from_backend(backend.clone(), rings.access.clone());
        Ok(Self {
            writer: StoreWriter::new(backend, rings, lead),
            reader,
        })
    }
}

/// A new temporary directory for a test.
#[cfg(test)]
pub(crate) fn scratch_directory() -> std::path::PathBuf {
    let name = format!("evergreen-test-{}", store::random::hex::<8>());
    let directory = std::env::temp_dir().join(name);
    std::fs::create_dir(&directory).unwrap();
    directory
}
