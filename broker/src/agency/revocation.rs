//! The end of an agency's installation ends those of its locations.

use futures_util::stream::{self, StreamExt};
use store::{InstallationId, Status, Timestamp};
use store_writer::{StoreWriter, WriteError};
use tracing::{info, warn};

/// Locations that are ended at once.
const WRITES: usize = 16;

/// Ends the locations of an agency that is revoked. A location that is missed, because the process dies, ends when its
/// token is wanted next.
pub(crate) async fn end_locations(
    writer: &StoreWriter,
    parent: &InstallationId,
    reason: &str,
    told_at: Timestamp,
) -> Result<usize, WriteError> {
    let children = writer.children(parent).await?;
    let ended = stream::iter(children).map(|id| {
        let (writer, parent, reason) = (writer.clone(), parent.clone(), reason.to_owned());
        async move { end_location(&writer, &parent, &id, &reason, told_at).await }
    });
    let mut ended = ended.buffer_unordered(WRITES);
    let mut count = 0;
    while let Some(is_ended) = ended.next().await {
        match is_ended {
            Ok(is_ended) => count += usize::from(is_ended),
            Err(error) => warn!(parent = %parent, error = &error as &dyn std::error::Error,
                "a location of an agency ends when its token is wanted next"),
        }
    }
    info!(parent = %parent, locations = count, "ended the locations of an agency");
    Ok(count)
}

async fn end_location(
    writer: &StoreWriter,
    parent: &InstallationId,
    id: &InstallationId,
    reason: &str,
    told_at: Timestamp,
) -> Result<bool, WriteError> {
    let known = writer.load(id).await?;
    // It may have a grant of its own by now.
    let is_child = known.is_some_and(|it| {
        let access = &it.installation.access;
        access.status != Status::Revoked && access.parent.as_ref() == Some(parent)
    });
    match is_child {
        true => writer.revoke(id, reason, told_at).await,
        false => Ok(false),
    }
}
