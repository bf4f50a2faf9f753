//! Counts which keys the records need, seals records anew, and frees keys that none needs.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use store::key_list::{KeyList, KeyState, RingKind};
use store::{InstallationId, keys};

use super::{StoreWriter, WriteError, parse, swap};
use crate::backend::{Confirmation, Swap};
use crate::error::MAX_SWAP_ATTEMPTS;
use crate::sealing::KeysError;
use crate::sealing::list::{NotForgotten, forgotten, retired, retiring};
use crate::sealing::record::{KeyUse, key_use, resealed};

/// The number of concurrent reads of a count: a fraction of what a store can take.
const READS: usize = 16;

/// The keys that some records need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SealCount {
    /// The records.
    pub records: u64,
    /// Records whose fields cannot be read, whatever the keys.
    pub malformed: u64,
    /// The keys of the access ring that they need.
    pub access: KeyUse,
    /// The keys of the refresh ring that they need.
    pub refresh: KeyUse,
}

impl SealCount {
    /// The keys of a ring that the records need.
    #[must_use]
    pub fn of(&self, kind: RingKind) -> &KeyUse {
        match kind {
            RingKind::Access => &self.access,
            RingKind::Refresh => &self.refresh,
        }
    }

    /// Adds another count.
    pub fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.malformed += other.malformed;
        self.access.add(&other.access);
        self.refresh.add(&other.refresh);
    }
}

/// One record after [`StoreWriter::reseal`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resealed {
    /// The keys that the record needed before.
    pub before: SealCount,
    /// The keys that it needs now.
    pub after: SealCount,
    /// Whether it was written.
    pub is_written: bool,
}

impl StoreWriter {
    /// Counts which keys the records of a partition need, and on through the following partitions until
    /// there are `at_least` records. Also returns the partition to continue with; `None` after the last one.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn count_seals(
        &self,
        from: u8,
        at_least: u64,
    ) -> Result<(SealCount, Option<u8>), WriteError> {
        let mut count = SealCount::default();
        for partition in from..=u8::MAX {
            let ids = self.backend.ids(partition).await?;
            let counted = stream::iter(ids)
                .map(async |id| self.count_one(&id).await)
                .buffer_unordered(READS);
            let counted: Vec<SealCount> = counted.try_collect().await?;
            counted.iter().for_each(|one| count.add(one));
            if count.records >= at_least {
                return Ok((count, partition.checked_add(1)));
            }
        }
        Ok((count, None))
    }

    async fn count_one(&self, id: &InstallationId) -> Result<SealCount, WriteError> {
        let loaded = self.backend.load(id).await?;
        Ok(match parse(id, &loaded) {
            Ok(Some(record)) => SealCount {
                records: 1,
                malformed: 0,
                access: key_use(&record, RingKind::Access, &self.rings.access),
                refresh: key_use(&record, RingKind::Refresh, &self.rings.refresh),
            },
            Ok(None) => SealCount::default(),
            Err(_) => SealCount {
                records: 1,
                malformed: 1,
                ..SealCount::default()
            },
        })
    }

    /// The installations of a partition.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn partition(&self, partition: u8) -> Result<Vec<InstallationId>, WriteError> {
        self.backend.ids(partition).await
    }

    /// Seals everything in a record with the first keys, unless another process writes at the same time: then
    /// the record is read again, and what that process wrote stays. Nothing else of the record changes. Gateways
    /// hear nothing, since they keep plain tokens.
    ///
    /// # Errors
    /// When the store is unavailable, or too few replicas have the record.
    pub async fn reseal(&self, id: &InstallationId) -> Result<Resealed, WriteError> {
        for _ in 0..MAX_SWAP_ATTEMPTS {
            let loaded = self.backend.load(id).await?;
            let record = match parse(id, &loaded) {
                Ok(Some(record)) => record,
                Ok(None) => return Ok(Resealed::default()),
                Err(_) => {
                    let count = SealCount {
                        records: 1,
                        malformed: 1,
                        ..SealCount::default()
                    };
                    return Ok(Resealed {
                        before: count.clone(),
                        after: count,
                        is_written: false,
                    });
                }
            };
            let count = |record: &_| SealCount {
                records: 1,
                malformed: 0,
                access: key_use(record, RingKind::Access, &self.rings.access),
                refresh: key_use(record, RingKind::Refresh, &self.rings.refresh),
            };
            let before = count(&record);
            let Some(next) = resealed(&record, &self.rings) else {
                let after = before.clone();
                return Ok(Resealed {
                    before,
                    after,
                    is_written: false,
                });
            };
            let swap = Swap {
                keeps_schedule: true,
                announce: None,
                ..swap(&next, &loaded)?
            };
            let revision = swap.revision();
            if self.backend.swap(swap).await? {
                match self.backend.confirm(id, &revision).await? {
                    // A later write follows this one.
                    Confirmation::Confirmed | Confirmation::Overwritten => {}
                    Confirmation::Unconfirmed => {
                        return Err(WriteError::Unconfirmed(id.clone()));
                    }
                }
                return Ok(Resealed {
                    before,
                    after: count(&next),
                    is_written: true,
                });
            }
        }
        Err(WriteError::Contended(id.clone()))
    }

    /// The store's list of a ring's keys.
    ///
    /// # Errors
    /// When the store is unavailable, or the list cannot be read.
    pub async fn key_list(&self, kind: RingKind) -> Result<KeyList, KeysError> {
        Ok(self.read_list(kind).await?.list)
    }

    /// Retires the keys that no record needs. `left`: what all records need. Whether a key retires.
    ///
    /// # Errors
    /// When the store is unavailable, or a list cannot be read.
    pub async fn retire_keys(&self, left: &SealCount) -> Result<bool, KeysError> {
        let mut has_retiring = false;
        for kind in RingKind::ALL {
            let ring = self.rings.of(kind);
            let next = |list: &KeyList| Ok(retiring(list, ring, left.of(kind)));
            let Ok(_) = self.change_list::<Infallible>(kind, next).await?;
            // A broker that died may have left one.
            let list = self.key_list(kind).await?;
            let mut states = list.keys.values().map(|listed| listed.state);
            has_retiring |= states.any(|state| state == KeyState::Retiring);
        }
        Ok(has_retiring)
    }

    /// Frees the retiring keys that no record needs, and keeps the others. `found`: what the records needed
    /// when they were read after the keys began to retire.
    ///
    /// # Errors
    /// When the store is unavailable, or a list cannot be read.
    pub async fn free_keys(&self, found: &SealCount) -> Result<(), KeysError> {
        for kind in RingKind::ALL {
            let next = |list: &KeyList| Ok(retired(list, found.of(kind)));
            let Ok(_) = self.change_list::<Infallible>(kind, next).await?;
        }
        Ok(())
    }

    /// Removes a free key from the list of a ring.
    ///
    /// # Errors
    /// When the store is unavailable, or the list cannot be read. The inner error says why the key stays.
    pub async fn forget_key(
        &self,
        kind: RingKind,
        id: &str,
    ) -> Result<Result<(), NotForgotten>, KeysError> {
        let ring = self.rings.of(kind);
        let next = |list: &KeyList| forgotten(list, ring, id).map(Some);
        Ok(self.change_list(kind, next).await?.map(drop))
    }

    /// Changes a list by compare-and-swap. Whether it changed.
    async fn change_list<E>(
        &self,
        kind: RingKind,
        decide: impl Fn(&KeyList) -> Result<Option<KeyList>, E>,
    ) -> Result<Result<bool, E>, KeysError> {
        for _ in 0..MAX_SWAP_ATTEMPTS {
            let read = self.read_list(kind).await?;
            let next = match decide(&read.list) {
                Ok(Some(next)) => next.to_fields(),
                Ok(None) => return Ok(Ok(false)),
                Err(error) => return Ok(Err(error)),
            };
            if self
                .backend
                .swap_key_list(kind, &read.revision, next)
                .await?
            {
                return Ok(Ok(true));
            }
        }
        Err(super::sealing::contended())
    }

    /// The rotation that a broker carries out, as text; `None`: there is none, or its broker has died.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn rotation(&self) -> Result<Option<String>, WriteError> {
        self.backend.get(keys::ROTATION).await
    }

    /// Replaces the rotation that was read. It ends by itself after `ttl`. False if another broker wrote since.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn replace_rotation(
        &self,
        expected: Option<&str>,
        next: Option<&str>,
        ttl: Duration,
    ) -> Result<bool, WriteError> {
        let key = keys::ROTATION;
        self.backend.compare_and_set(key, expected, next, ttl).await
    }
}
