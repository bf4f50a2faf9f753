//! Something that a person can do about an installation.

use store::key_list::RingKind;
use store::{AppName, InstallationId};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// In one or two sentences.
    pub(crate) text: String,
    /// The command that does it, if there is one.
    pub(crate) command: Option<String>,
    /// The button that does it, if the console has one.
    pub(crate) action: Option<Action>,
}

/// A step that the console offers as a button or a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make a link with which the customer connects again.
    Reconnect,
    Refresh,
    /// Also if the installation is invalid.
    ForceRefresh,
    /// Look at this installation.
    Open(InstallationId),
}

impl Action {
    /// The name in the JSON.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Reconnect => "reconnect",
            Self::Refresh => "refresh",
            Self::ForceRefresh => "force_refresh",
            Self::Open(_) => "open",
        }
    }
}

impl Step {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            command: None,
            action: None,
        }
    }

    pub(super) fn run(self, command: impl Into<String>) -> Self {
        Self {
            command: Some(command.into()),
            ..self
        }
    }

    pub(super) fn by(self, action: Action) -> Self {
        Self {
            action: Some(action),
            ..self
        }
    }
}

/// The customer consents again.
pub(super) fn reconnect(id: &InstallationId) -> Step {
    Step::new(
        "Make a link, and send it to the customer, who connects again with it. The installation keeps its id, its tags \
         and its external id.",
    )
    .run(format!("evergreen installations reconnect-link {id}"))
    .by(Action::Reconnect)
}

/// The agency of a location consents again.
pub(super) fn reconnect_agency(agency: &InstallationId) -> Step {
    Step::new("Let the agency connect again. That mends all of its locations.")
        .run(format!("evergreen installations reconnect-link {agency}"))
        .by(Action::Open(agency.clone()))
}

pub(super) fn open_agency(agency: &InstallationId) -> Step {
    Step::new("Look at the agency.")
        .run(format!("evergreen doctor {agency}"))
        .by(Action::Open(agency.clone()))
}

pub(super) fn refresh(id: &InstallationId) -> Step {
    Step::new("Refresh the token now. The answer says what still prevents it.")
        .run(format!("evergreen installations refresh {id}"))
        .by(Action::Refresh)
}

/// Tries a refresh token that GHL has refused.
pub(super) fn force(id: &InstallationId) -> Step {
    Step::new(
        "If you think that GHL refused the token wrongly, for example during an outage of GHL, try it once more.",
    )
    .run(format!("evergreen installations refresh {id} --force"))
    .by(Action::ForceRefresh)
}

/// Gateways have the access ring alone, and do not start with the other one.
pub(super) fn restore_sealing_key(ring: Option<RingKind>, remedy: &str) -> Step {
    let processes = match ring {
        Some(RingKind::Access) => "of all brokers and gateways",
        Some(RingKind::Refresh) => "of all brokers",
        None => "of the processes that have this ring",
    };
    Step::new(format!(
        "Restore the sealing key: {remedy} {processes}. Restart them, or send them SIGHUP if the ring is in a file or from a \
         command."
    ))
    .run("evergreen seal status")
}

/// The app's client id and secret are corrected.
pub(super) fn correct_credentials(app: &AppName) -> Step {
    Step::new(format!(
        "Compare the client id and secret of the app {app} with those on its page at GHL, correct them in the settings of \
         the brokers, and send them SIGHUP. Refreshes go on within 30 s."
    ))
    .run("evergreen apps list")
}

/// The settings get the app back.
pub(super) fn restore_app(app: &AppName) -> Step {
    let text = match app.is_default() {
        true => "Put GHL_CLIENT_ID and GHL_CLIENT_SECRET of the app back into the settings of all brokers, and send them \
                 SIGHUP."
            .to_owned(),
        false => format!(
            "Put the section [apps.{app}], or its file in EVERGREEN_APPS_DIR, back into the settings of all brokers, and \
             send them SIGHUP."
        ),
    };
    Step::new(text).run("evergreen apps list")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_name_the_installation_in_their_commands() {
        let id = InstallationId::random();
        for step in [reconnect(&id), refresh(&id), force(&id)] {
            let command = step.command.unwrap();
            assert!(command.contains(id.as_str()), "{command}");
            assert!(step.action.is_some());
        }
        let agency = reconnect_agency(&id);
        assert_eq!(agency.action, Some(Action::Open(id)));
    }
}
