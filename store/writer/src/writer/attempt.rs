//! One attempt to refresh: its conditions, its permit and its outcomes.

#[cfg(test)]
mod tests;

use std::time::Duration;

use secrecy::SecretString;
use store::{
    AppName, ClientId, CompanyId, Generation, InstallationId, LocationId, Status, Timestamp,
    UserType,
};

use crate::grant::ChainLink;
use crate::installation::{Installation, IntentId, LastError, RefusalCount};

/// The longest time that a request takes to reach GHL.
const TRANSIT_TIME: Duration = Duration::from_secs(1);

/// The permit to spend one refresh token once. The intent is stored.
#[derive(Debug)]
#[must_use = "an intent without a commit or a recorded failure blocks the installation until it ends"]
pub struct Begun {
    /// The installation to refresh.
    pub installation: InstallationId,
    /// The stored intent.
    pub intent: IntentId,
    /// The link that is spent.
    pub link: ChainLink,
    /// The refresh token to send.
    pub refresh_token: SecretString,
    /// The client id that it works with; `None` if an older build stored it.
    pub client: Option<ClientId>,
    /// The name of its app.
    pub app: AppName,
    /// The kind of token, from GHL's `userType`.
    pub user_type: UserType,
    /// The sub-account, if the token is of one.
    pub location: Option<LocationId>,
    /// The agency. It is not known for every location.
    pub company: Option<CompanyId>,
    /// The store's time of the begin. The new token's expiry is counted from it.
    pub began_at: Timestamp,
    /// When an earlier attempt may first have spent this refresh token; `None`: this is the first attempt.
    pub first_spent_at: Option<Timestamp>,
    /// GHL's grace period.
    pub grace: Duration,
    /// Earlier refusals of this token.
    pub refused: Option<RefusalCount>,
    /// Failed attempts since the last success.
    pub failures: u32,
    /// The last of those failures.
    pub last_error: Option<LastError>,
    /// When the access token that is being replaced expires.
    pub expires_at: Option<Timestamp>,
    /// Whether another broker had begun it, and has not ended it.
    pub is_takeover: bool,
}

impl Begun {
    /// How long GHL still repeats the response that an earlier attempt lost; zero if there was no such
    /// attempt.
    #[must_use]
    pub fn grace_left(&self) -> Duration {
        let first = self.first_spent_at;
        first.map_or(Duration::ZERO, |first| {
            (first + self.grace).since(self.began_at)
        })
    }

    /// Whether GHL may have stopped repeating the response that an earlier attempt lost.
    #[must_use]
    pub fn is_past_grace(&self) -> bool {
        let first = self.first_spent_at;
        first.is_some_and(|first| self.began_at.since(first) >= self.grace)
    }

    /// The permit to request the same response again, `elapsed` after the begin, without a further write to
    /// the store. `None` outside GHL's grace period, because only within it GHL repeats the response.
    #[must_use]
    pub fn retry(&self, elapsed: Duration) -> Option<Self> {
        let first = self.first_spent_at.unwrap_or(self.began_at);
        if self.began_at.since(first) + elapsed + TRANSIT_TIME >= self.grace {
            return None;
        }
        Some(Self {
            installation: self.installation.clone(),
            intent: IntentId::random(),
            link: self.link.clone(),
            refresh_token: self.refresh_token.clone(),
            client: self.client.clone(),
            app: self.app.clone(),
            user_type: self.user_type,
            location: self.location.clone(),
            company: self.company.clone(),
            began_at: self.began_at,
            first_spent_at: Some(first),
            grace: self.grace,
            refused: self.refused.clone(),
            failures: self.failures,
            last_error: self.last_error.clone(),
            expires_at: self.expires_at,
            is_takeover: self.is_takeover,
        })
    }
}

/// Whether a refresh may be sent. See [`protocol::Begin`](crate::protocol::Begin).
#[derive(Debug)]
pub enum Begin {
    /// Yes.
    Go(Box<Begun>),
    /// No. Another broker holds the intent until then.
    Busy {
        /// The broker with the intent or with a late response.
        holder: String,
        /// When to try again.
        until: Timestamp,
    },
    /// No. The generation that was to be replaced is already replaced.
    Superseded,
    /// No. The installation is due at this time, or backs off until then.
    NotDue(Timestamp),
    /// No. No new tokens are spent now, and this one is new.
    Deferred,
    /// No. Its tokens are minted with those of this installation of an agency.
    Derived(InstallationId),
    /// No. The list of the agency's locations is due. It is claimed for [`LIST_CLAIM`](crate::protocol::LIST_CLAIM).
    ListDue,
    /// No. Its app is none of [`Conditions::apps`]. It is due again after
    /// [`UNKNOWN_APP_PAUSE`](crate::protocol::UNKNOWN_APP_PAUSE).
    UnknownApp,
    /// No. It is a static token that is older than [`STATIC_TOKEN_AGE`](crate::protocol::STATIC_TOKEN_AGE).
    OldToken,
    /// No. There is no refresh token, or the status excludes a refresh.
    NotRefreshable(Status),
    /// No. There is no such installation.
    Unknown,
}

/// The apps whose credentials a broker has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownApps {
    /// Their names.
    pub names: Vec<AppName>,
    /// Their client ids.
    pub clients: Vec<ClientId>,
}

impl KnownApps {
    /// Whether the broker can refresh an installation of this app. A client id is known also if it is that of an app of
    /// another name: the earlier client id of an app may be kept so.
    #[must_use]
    pub fn include(&self, installation: &Installation) -> bool {
        match &installation.client {
            Some(client) => self.clients.contains(client),
            None => self.names.contains(&installation.access.app),
        }
    }
}

/// The conditions of an attempt.
#[derive(Debug, Clone, Copy)]
pub struct Conditions<'a> {
    /// The name of the broker.
    pub holder: &'a str,
    /// The apps whose credentials the broker has.
    pub apps: &'a KnownApps,
    /// How long the attempt may take until it is sent.
    pub window: Duration,
    /// Why the refresh is wanted.
    pub wanted: Wanted,
    /// Whether the store has just come back.
    pub is_after_outage: bool,
    /// Whether a token that was not sent yet may be spent.
    pub may_spend_new: bool,
    /// GHL's grace period.
    pub grace: Duration,
    /// Whether the own refresh token of an agency's location may be spent, because the agency's grant is gone.
    pub is_orphan: bool,
}

/// The effect of a granted token pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// It became the current pair.
    Applied {
        /// The generation of the pair.
        generation: Generation,
        /// When the next refresh is due.
        due: Timestamp,
        /// The installation's state before, if GHL had refused its token.
        recovered: Option<Recovered>,
    },
    /// It already was the current pair.
    Duplicate,
    /// The chain has moved on. The pair is an alternate or useless.
    NotCurrent,
}

/// The state of an installation, before it got a token again after refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovered {
    /// GHL had refused the token, but the installation was active.
    Suspect,
    /// The installation was invalid.
    Invalid,
}

impl Recovered {
    pub(super) fn of(earlier: &Installation) -> Option<Self> {
        match earlier.access.status {
            Status::Invalid => Some(Self::Invalid),
            Status::Active | Status::Paused if earlier.refused.is_some() => Some(Self::Suspect),
            Status::Active | Status::Paused | Status::Revoked | Status::Static => None,
        }
    }

    /// The name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Suspect => "suspect",
            Self::Invalid => "invalid",
        }
    }
}

/// The effect of a failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailureOutcome {
    /// The failure was recorded.
    Recorded {
        /// When the next attempt is due.
        due: Option<Timestamp>,
        /// GHL's refusals of the token so far.
        refused: Option<RefusalCount>,
    },
    /// Nothing changed. Another process moved the chain on or took over the intent.
    Superseded,
    /// An alternate replaced the refused token. Try again now.
    Adopted,
}

/// Why a refresh is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// It is due on its schedule.
    Due,
    /// A caller found the token of this generation unusable.
    Past(Generation),
    /// An operator requested it.
    Now,
    /// An operator requested it, even if the installation is invalid.
    Forced,
}
