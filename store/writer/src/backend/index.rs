//! The index of names, as a backend keeps it, and the end of a record.

use store::record::Fields;
use store::{AppName, InstallationId};

use super::BackendFuture;

/// A record to remove, on condition that it still has the expected revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The installation.
    pub id: InstallationId,
    /// The revision that its record must have.
    pub expected: Vec<u8>,
    /// The app whose schedules it is on.
    pub app: AppName,
    /// The families that it may be in: see [`store::keys::family`].
    pub families: Vec<String>,
    /// The message to publish to readers.
    pub announce: Option<String>,
}

/// The part of a store that finds installations by the names of their locations, companies and customers.
pub trait IndexBackend: Send + Sync {
    /// The installation ids of a name, by the name of the app.
    fn location<'a>(&'a self, name: &'a str) -> BackendFuture<'a, Fields>;
    /// The installation id of a name under an app. Stores `id` if there is none.
    fn get_or_insert_location<'a>(
        &'a self,
        app: &'a AppName,
        name: &'a str,
        id: &'a InstallationId,
    ) -> BackendFuture<'a, String>;
    /// Gives a name to another installation, or to none, if `expected` has it, and announces it to readers. False if it
    /// has not.
    fn replace_location<'a>(
        &'a self,
        app: &'a AppName,
        name: &'a str,
        expected: &'a InstallationId,
        next: Option<&'a InstallationId>,
    ) -> BackendFuture<'a, bool>;
    /// Removes a record and its schedule. False if another process wrote first.
    fn remove(&self, removal: Removal) -> BackendFuture<'_, bool>;
}
