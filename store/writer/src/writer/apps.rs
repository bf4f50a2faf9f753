//! The apps of the store, and the installations of locations and companies under each.

use store::record::Unreadable;
use store::{AppName, ClientId, InstallationId, Timestamp, reader};

use super::{StoreWriter, WriteError};

/// Whether an app may use its name in this store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppIdentity {
    /// The name stands for this app.
    Same,
    /// No installation of that name has been stored yet.
    Free,
    /// The name stands for the app with this id at GHL.
    Another(String),
}

impl AppIdentity {
    fn of(held: Option<String>, client: &ClientId) -> Self {
        match held {
            None => Self::Free,
            Some(held) if held == client.app_id() => Self::Same,
            Some(held) => Self::Another(held),
        }
    }
}

impl StoreWriter {
    /// Whether an app may use its name. Two apps with one name would spend each other's refresh tokens.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn check_app(
        &self,
        name: &AppName,
        client: &ClientId,
    ) -> Result<AppIdentity, WriteError> {
        let all = self.backend.apps().await?;
        let held = all.iter().find(|(its, _)| *its == name.as_str());
        let held = held.map(|(_, id)| String::from_utf8_lossy(id).into_owned());
        Ok(AppIdentity::of(held, client))
    }

    /// Gives the name to the app, if it is free.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn name_app(
        &self,
        name: &AppName,
        client: &ClientId,
    ) -> Result<AppIdentity, WriteError> {
        let held = self.backend.name_app(name, client.app_id()).await?;
        Ok(AppIdentity::of(Some(held), client))
    }

    /// The names of all apps with installations in the store.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn apps(&self) -> Result<Vec<AppName>, WriteError> {
        let named = self.named_apps().await?;
        Ok(named.into_iter().map(|(name, _)| name).collect())
    }

    /// As [`StoreWriter::apps`], each with its id at GHL.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn named_apps(&self) -> Result<Vec<(AppName, String)>, WriteError> {
        let all = self.backend.apps().await?;
        let parse = |(name, id): (&str, &[u8])| {
            Some((name.parse().ok()?, String::from_utf8_lossy(id).into_owned()))
        };
        Ok(all.iter().filter_map(parse).collect())
    }

    /// Frees the name of an app that has no installation on its schedule. Whether it was free or is now. `false`: it has
    /// installations.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn free_app(&self, name: &AppName) -> Result<bool, WriteError> {
        let end_of_time = Timestamp::from_millis(i64::MAX);
        if self.backend.count_due(name, end_of_time).await? > 0 {
            return Ok(false);
        }
        self.backend.free_app(name).await?;
        Ok(true)
    }

    /// The installations of a location or company: one for each app.
    ///
    /// # Errors
    /// When the store is unavailable, or an index entry is no id.
    pub async fn resolve(&self, name: &str) -> Result<Vec<(AppName, InstallationId)>, WriteError> {
        let found = self.backend.location(name).await?;
        reader::parse_index(&found).map_err(|source| WriteError::Unreadable {
            id: InstallationId::random(),
            source,
        })
    }

    /// The installation of a location or company under an app.
    ///
    /// # Errors
    /// As [`StoreWriter::resolve`].
    pub async fn resolve_in(
        &self,
        app: &AppName,
        name: &str,
    ) -> Result<Option<InstallationId>, WriteError> {
        let all = self.resolve(name).await?;
        Ok(all
            .into_iter()
            .find_map(|(its, id)| (its == *app).then_some(id)))
    }

    /// The id that a location or company has under an app, for now and later.
    pub(super) async fn reserved_id(
        &self,
        app: &AppName,
        name: &str,
        fresh: InstallationId,
    ) -> Result<InstallationId, WriteError> {
        let id = self
            .backend
            .get_or_insert_location(app, name, &fresh)
            .await?;
        id.parse().map_err(|_| WriteError::Unreadable {
            id: fresh,
            source: Unreadable::Malformed("location index"),
        })
    }
}
