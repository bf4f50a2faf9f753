//! The end of an agency's installation ends those of its locations.

use futures_util::stream::{self, StreamExt};
use service::shutdown::Shutdown;
use store::{InstallationId, Status, Timestamp};
use store_writer::{StoreWriter, WriteError};
use tracing::{info, warn};

/// Locations that are ended at once.
const WRITES: usize = 16;

/// Ends the locations of an agency that is revoked. A location that is missed ends when its token is wanted next.
///
/// Runs in a task of its own, so that a caller that disconnects does not cancel it.
///
/// # Errors
/// If a location could not be ended. The others are ended all the same.
pub(crate) async fn end_locations(
    shutdown: &Shutdown,
    writer: &StoreWriter,
    parent: &InstallationId,
    reason: &'static str,
    told_at: Timestamp,
) -> Result<(), WriteError> {
    let (writer, parent) = (writer.clone(), parent.clone());
    let ending = shutdown.spawn(async move { end_all(&writer, &parent, reason, told_at).await });
    ending
        .await
        .unwrap_or_else(|lost| Err(WriteError::Unavailable(lost.into())))
}

async fn end_all(
    writer: &StoreWriter,
    parent: &InstallationId,
    reason: &'static str,
    told_at: Timestamp,
) -> Result<(), WriteError> {
    let children = writer.children(parent).await?;
    let ended = stream::iter(children).map(|id| {
        let (writer, parent) = (writer.clone(), parent.clone());
        async move { end_location(&writer, &parent, &id, reason, told_at).await }
    });
    let mut ended = ended.buffer_unordered(WRITES);
    let (mut count, mut failed) = (0, None);
    while let Some(is_ended) = ended.next().await {
        match is_ended {
            Ok(is_ended) => count += usize::from(is_ended),
            Err(error) => {
                warn!(parent = %parent, error = &error as &dyn std::error::Error,
                    "a location of an agency could not be ended");
                failed = Some(error);
            }
        }
    }
    info!(parent = %parent, locations = count, "ended the locations of an agency");
    failed.map_or(Ok(()), Err)
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
