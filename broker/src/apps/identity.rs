//! Whether the name of an app stands for it in the store.
//!
//! Two deployments may share a store, each with an app of its own. If both call theirs by one name, each would send the
//! other's refresh tokens with its own client id. So the store notes which app at GHL has a name, with the first
//! installation that it stores.

use std::sync::Mutex;
use std::time::Duration;

use service::locks::lock;
use store_writer::writer::AppIdentity;
use store_writer::{StoreWriter, WriteError};
use tokio::time::Instant;
use tracing::{error, warn};

use super::App;

/// How long an answer of the store counts. A failover may lose the name, and another deployment may get it then.
const CONFIRMED_FOR: Duration = Duration::from_secs(60);

/// The knowledge of this process.
#[derive(Debug, Default)]
pub(crate) struct Identity(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When the store last said that the name is ours.
    ours_at: Option<Instant>,
    /// Whether the name is another app's.
    is_taken: bool,
    is_unreadable: bool,
    problem: Option<String>,
}

impl Identity {
    /// Notes why the app cannot be used.
    pub(crate) fn note_problem(&self, problem: Option<String>) {
        lock(&self.0).problem = problem;
    }

    /// Why the app cannot be used. `None` if it can, as far as this broker knows.
    pub(crate) fn problem(&self) -> Option<String> {
        lock(&self.0).problem.clone()
    }

    /// Whether the name is another app's, as far as this broker knows.
    pub(crate) fn is_taken(&self) -> bool {
        lock(&self.0).is_taken
    }

    /// Notes that the store does not say whose the name is. It is logged once.
    pub(crate) fn note_unreadable(&self, error: &WriteError) {
        if !std::mem::replace(&mut lock(&self.0).is_unreadable, true) {
            warn!(
                error = error as &dyn std::error::Error,
                "the names of apps cannot be read: does the broker's user of Redis have the rights of deploy/users.acl?"
            );
        }
    }

    fn is_confirmed(&self) -> bool {
        let ours_at = lock(&self.0).ours_at;
        ours_at.is_some_and(|at| at.elapsed() < CONFIRMED_FOR)
    }

    fn was_ours(&self) -> bool {
        lock(&self.0).ours_at.is_some()
    }
}

/// Why an app is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotUsable {
    /// The store could not be asked.
    #[error(transparent)]
    Store(#[from] WriteError),
    /// The name stands for another app.
    #[error(
        "in this store the app `{name}` is {held} at GHL, and the client id of this broker begins with {own}: give \
         this app a name of its own, in a section [apps.NAME] of the settings file"
    )]
    NameTaken {
        name: String,
        held: String,
        own: String,
    },
}

impl App {
    /// Checks that the name stands for this app, or for none yet. A name that was ours, and that the store has lost, is
    /// noted again.
    pub(crate) async fn ensure_usable(&self, writer: &StoreWriter) -> Result<(), NotUsable> {
        if self.identity.is_confirmed() {
            return Ok(());
        }
        if self.identity.was_ours() {
            return match self.claim_name(writer).await {
                // A store that cannot tell changes nothing. In a Cluster this slot can be unreachable alone.
                Err(NotUsable::Store(_)) => {
                    lock(&self.identity.0).ours_at = Some(Instant::now());
                    Ok(())
                }
                other => other,
            };
        }
        let found = writer.check_app(&self.name, &self.client).await?;
        self.note(found)
    }

    /// As [`App::ensure_usable`], and gives the name to this app if it is free. Only after GHL has accepted the client id,
    /// since a name is given for good.
    pub(crate) async fn claim_name(&self, writer: &StoreWriter) -> Result<(), NotUsable> {
        if self.identity.is_confirmed() {
            return Ok(());
        }
        let found = writer.name_app(&self.name, &self.client).await?;
        self.note(found)
    }

    fn note(&self, found: AppIdentity) -> Result<(), NotUsable> {
        let mut state = lock(&self.identity.0);
        let was_taken = std::mem::take(&mut state.is_taken);
        state.is_unreadable = false;
        match found {
            AppIdentity::Same => {
                state.ours_at = Some(Instant::now());
                Ok(())
            }
            AppIdentity::Free => Ok(()),
            AppIdentity::Another(held) => {
                (state.ours_at, state.is_taken) = (None, true);
                let taken = NotUsable::NameTaken {
                    name: self.name.to_string(),
                    held,
                    own: self.client.app_id().to_owned(),
                };
                if !was_taken {
                    error!(app = %self.name, problem = %taken, "an app cannot be used");
                }
                Err(taken)
            }
        }
    }
}
