//! The read half of the store in a file.

use futures_util::future::BoxFuture;
use store::key_list::RingKind;
use store::reader::{ReadBackend, ReadError};
use store::record::Fields;
use store::{InstallationId, Invalidation, KeyHash, Timestamp, keys};
use tokio::sync::broadcast;

use super::{EmbeddedBackend, announce, apps, now};

impl ReadBackend for EmbeddedBackend {
    fn access<'a>(&'a self, id: &'a InstallationId) -> BoxFuture<'a, Result<Fields, ReadError>> {
        Box::pin(async move { self.hash(&keys::access(id)).map_err(read_unavailable) })
    }

    fn location<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Fields, ReadError>> {
        Box::pin(async move { apps::installations(self, name).map_err(read_unavailable) })
    }

    fn caller<'a>(&'a self, key: &'a KeyHash) -> BoxFuture<'a, Result<Fields, ReadError>> {
        Box::pin(async move { self.hash(&keys::caller(key)).map_err(read_unavailable) })
    }

    fn access_key_list(&self) -> BoxFuture<'_, Result<Fields, ReadError>> {
        let key = keys::key_list(RingKind::Access);
        Box::pin(async move { self.hash(&key).map_err(read_unavailable) })
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), ReadError>> {
        Box::pin(async move { self.file.read().map(|_| ()).map_err(read_unavailable) })
    }

    fn invalidations(&self) -> broadcast::Receiver<Invalidation> {
        let invalidations = self.invalidations.subscribe();
        // Within one process announcements always arrive.
        announce(&self.invalidations, Invalidation::ChannelRestored);
        invalidations
    }

    fn now(&self) -> Timestamp {
        now()
    }
}

fn read_unavailable(error: redb::Error) -> ReadError {
    ReadError::Unavailable(Box::new(error))
}
