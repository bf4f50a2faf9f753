//! The check of this process's rings against the store's lists of keys, and their registration.

use store::InstallationId;
use store::key_list::{KeyCheck, KeyList, REVISION, RingKind};
use store::random;

use super::{StoreWriter, WriteError, parse};
use crate::backend::Loaded;
use crate::error::MAX_SWAP_ATTEMPTS;
use crate::sealing::{Evidence, KeysError, first_list, registered};

/// How many records of a store without a list are tried.
const SAMPLE: usize = 64;

/// A list as it was read.
pub(super) struct ReadList {
    pub list: KeyList,
    pub revision: Vec<u8>,
}

pub(super) fn contended() -> KeysError {
    let contended = "other processes change the list of sealing keys all the time";
    WriteError::Unavailable(contended.into()).into()
}

impl StoreWriter {
    /// Checks that the rings fit the store. Writes nothing.
    ///
    /// # Errors
    /// When a ring is wrong, or the store is unavailable.
    pub async fn check_keys(&self) -> Result<(), KeysError> {
        for kind in RingKind::ALL {
            let read = self.read_list(kind).await?;
            self.list_with_own_keys(kind, &read.list).await?;
        }
        Ok(())
    }

    /// Checks that the rings fit the store, and adds their keys to its lists. Of two processes whose rings do
    /// not fit each other, the first one wins.
    ///
    /// # Errors
    /// When a ring is wrong, or the store is unavailable.
    pub async fn register_keys(&self) -> Result<(), KeysError> {
        for kind in RingKind::ALL {
            self.register_ring(kind).await?;
        }
        Ok(())
    }

    async fn register_ring(&self, kind: RingKind) -> Result<(), KeysError> {
        for _ in 0..MAX_SWAP_ATTEMPTS {
            let read = self.read_list(kind).await?;
            let Some(next) = self.list_with_own_keys(kind, &read.list).await? else {
                return Ok(());
            };
            let fields = next.to_fields();
            let swapped = self.backend.swap_key_list(kind, &read.revision, fields);
            if swapped.await? {
                return Ok(());
            }
        }
        Err(contended())
    }

    pub(super) async fn read_list(&self, kind: RingKind) -> Result<ReadList, KeysError> {
        let fields = self.backend.key_list(kind).await?;
        let revision = fields.bytes(REVISION).map(<[u8]>::to_vec);
        Ok(ReadList {
            list: KeyList::from_fields(&fields).map_err(KeysError::List)?,
            revision: revision.unwrap_or_default(),
        })
    }

    /// The list with this process's keys; `None` if it has them.
    async fn list_with_own_keys(
        &self,
        kind: RingKind,
        list: &KeyList,
    ) -> Result<Option<KeyList>, KeysError> {
        let ring = self.rings.of(kind);
        match list.check(kind, ring) {
            KeyCheck::Fits => Ok(registered(list, ring)),
            KeyCheck::Wrong(wrong) => Err(wrong.into()),
            KeyCheck::Unlisted => {
                let mut evidence = Evidence::default();
                for (id, loaded) in self.sample().await? {
                    // A record that is no record is no evidence.
                    let Ok(Some(record)) = parse(&id, &loaded) else {
                        continue;
                    };
                    for (label, sealed) in record.sealed_values(kind) {
                        evidence.add(ring, label, sealed);
                    }
                }
                Ok(Some(first_list(kind, ring, &evidence)?))
            }
        }
    }

    /// Some records, from partitions that follow a random one.
    async fn sample(&self) -> Result<Vec<(InstallationId, Loaded)>, WriteError> {
        let mut sample = Vec::new();
        if self.backend.stats().await?.installations == 0 {
            return Ok(sample);
        }
        let [first] = random::bytes::<1>();
        for offset in 0..=u8::MAX {
            for id in self.backend.ids(first.wrapping_add(offset)).await? {
                if sample.len() == SAMPLE {
                    return Ok(sample);
                }
                let loaded = self.backend.load(&id).await?;
                sample.push((id, loaded));
            }
        }
        Ok(sample)
    }
}
