//! An installation as a row of a table.

use store::{InstallationId, UserType};
use store_writer::writer::{KnownApps, Listed};

use super::path_of;
use crate::api::status::TokenStatus;
use crate::console::Time;

/// A row. Names and messages are of GHL, customers and callers, so pages escape them.
pub(crate) struct Row {
    pub(crate) id: String,
    /// The page of it.
    pub(crate) path: String,
    /// The name of the company, if a webhook has told it.
    pub(crate) name: Option<String>,
    pub(crate) app: String,
    pub(crate) location: Option<String>,
    pub(crate) company: Option<String>,
    pub(crate) external_id: Option<String>,
    pub(crate) tags: Vec<String>,
    /// The status in words, and the class of its badge.
    pub(crate) state: (&'static str, &'static str),
    pub(crate) expires_at: Option<Time>,
    pub(crate) refreshes_at: Option<Time>,
    pub(crate) last_error: Option<String>,
    /// How many locations an agency has, by the last list of GHL.
    pub(crate) locations: Option<u64>,
    /// The page of the agency of a location whose tokens come from it.
    pub(crate) agency: Option<String>,
}

impl Row {
    pub(crate) fn of(listed: &Listed, known: &KnownApps) -> Self {
        let snapshot = match listed {
            Listed::Readable(snapshot) => snapshot,
            Listed::Unreadable { id, source } => return Self::unreadable(id, source.to_string()),
        };
        let installation = &snapshot.installation;
        let access = &installation.access;
        let status = TokenStatus::of(snapshot, known);
        let is_refreshed = match status {
            TokenStatus::Valid
            | TokenStatus::Expiring
            | TokenStatus::Expired
            | TokenStatus::Suspect
            | TokenStatus::Paused
            | TokenStatus::Invalid => true,
            TokenStatus::Asleep
            | TokenStatus::Revoked
            | TokenStatus::Static
            | TokenStatus::Unclaimed
            | TokenStatus::Unreadable => false,
        };
        let facts = installation.details.as_ref().map(|it| &it.facts);
        let locations = installation.locations.as_ref();
        let is_agency = access.user_type == UserType::Company;
        Self {
            path: path_of(&installation.id),
            id: installation.id.to_string(),
            name: facts.and_then(|facts| facts.get("companyName").cloned()),
            app: access.app.to_string(),
            location: access.location.as_ref().map(ToString::to_string),
            company: access.company.as_ref().map(ToString::to_string),
            external_id: installation
                .customer
                .external_id
                .as_ref()
                .map(ToString::to_string),
            tags: installation
                .customer
                .tags
                .iter()
                .map(ToString::to_string)
                .collect(),
            state: label(status),
            expires_at: access
                .expires_at
                .filter(|_| !installation.is_asleep(snapshot.now))
                .map(Time::from),
            refreshes_at: installation.due.filter(|_| is_refreshed).map(Time::from),
            last_error: installation
                .last_error
                .as_ref()
                .map(|error| error.message.clone()),
            locations: is_agency.then(|| locations.map_or(0, |list| list.count)),
            agency: access.parent.as_ref().map(path_of),
        }
    }

    fn unreadable(id: &InstallationId, error: String) -> Self {
        Self {
            path: path_of(id),
            id: id.to_string(),
            name: None,
            app: String::new(),
            location: None,
            company: None,
            external_id: None,
            tags: Vec::new(),
            state: label(TokenStatus::Unreadable),
            expires_at: None,
            refreshes_at: None,
            last_error: Some(error),
            locations: None,
            agency: None,
        }
    }

    /// The title for people: its name, or the best id that there is.
    pub(crate) fn title(&self) -> &str {
        // All locations of an agency have the name of its company.
        let name = match self.location {
            Some(_) => &None,
            None => &self.name,
        };
        let names = [name, &self.external_id, &self.location, &self.company];
        names.into_iter().flatten().next().unwrap_or(&self.id)
    }

    /// The name of the company, unless it is the title.
    pub(crate) fn company_name(&self) -> Option<&str> {
        let name = self.name.as_deref();
        name.filter(|name| *name != self.title())
    }

    /// The location, or the company of an agency.
    pub(crate) fn owner(&self) -> &str {
        let owner = self.location.as_deref().or(self.company.as_deref());
        owner.unwrap_or_default()
    }
}

/// A status in words, and the class of its badge.
pub(crate) const fn label(status: TokenStatus) -> (&'static str, &'static str) {
    match status {
        TokenStatus::Valid => ("connected", "good"),
        TokenStatus::Expiring => ("expires soon", "warn"),
        TokenStatus::Expired => ("expired", "bad"),
        TokenStatus::Asleep => ("asleep", ""),
        TokenStatus::Suspect => ("in doubt", "warn"),
        TokenStatus::Invalid => ("needs consent", "bad"),
        TokenStatus::Revoked => ("ended", ""),
        TokenStatus::Paused => ("paused", "warn"),
        TokenStatus::Static => ("private token", "good"),
        TokenStatus::Unclaimed => ("app not known", "bad"),
        TokenStatus::Unreadable => ("unreadable", "bad"),
    }
}
