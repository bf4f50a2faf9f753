//! Opens a store: two backends, and a writer and a reader for each.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::SecretString;
use store::TokenReader;
use store::connection::{Address, BadAddress, RedisClient};
use store::freshness::Lead;

use crate::backend::embedded::EmbeddedBackend;
use crate::backend::redis::RedisBackend;
use crate::group_commit_db::DbError;
use crate::moving::Moved;
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
    /// The store is no longer in the file.
    #[error("{0}")]
    Moved(MovedAway),
}

/// The store was moved, and what to do.
#[derive(Debug)]
pub struct MovedAway {
    /// The file.
    pub file: PathBuf,
    /// The move.
    pub moved: Moved,
}

impl fmt::Display for MovedAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, to) = (self.file.display(), &self.moved.to);
        match self.moved.is_complete {
            true => write!(
                f,
                "the store in {file} was moved to {to}. Each of its refresh tokens works once, so two stores must not \
                 use them: run `evergreen broker` and `evergreen gateway` over {to}. `evergreen move --undo` brings the \
                 store back, as long as no broker has used it there"
            ),
            false => write!(
                f,
                "a move of the store in {file} to {to} has begun and not ended. Run `evergreen move` again to end it, \
                 or `evergreen move --undo` to give it up. Nobody uses the store there yet"
            ),
        }
    }
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
    /// When another process has the file open, it cannot be opened, or its store was moved.
    pub fn embedded(directory: &Path, rings: Rings, lead: Lead) -> Result<Self, OpenStoreError> {
        let file = directory.join("store.redb");
        let backend = Arc::new(EmbeddedBackend::open(&file)?);
        if let Some(moved) = backend.moved().map_err(DbError::from)? {
            return Err(OpenStoreError::Moved(MovedAway { file, moved }));
        }
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
