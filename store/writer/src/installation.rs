//! The whole record of an installation: the half that gateways read, and the half that only
//! brokers do.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use store::record::{Fields, StoredAccess, Unreadable};
use store::seal::{Label, Purpose, Sealed};
use store::{Generation, InstallationId, Status, Timestamp, random};

use crate::grant::{Fingerprint, Link};

/// One attempt to refresh.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IntentId(String);

impl IntentId {
    #[must_use]
    pub fn random() -> Self {
        Self(random::hex::<8>())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IntentId {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for IntentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Somebody is about to spend the refresh token, or died trying.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    pub id: IntentId,
    /// The broker.
    pub holder: String,
    pub opened_at: Timestamp,
    /// After this the holder starts nothing any more, and the outcome is unknown.
    pub until: Timestamp,
    /// When this refresh token may first have been spent. Kept through takeovers: GHL's grace for
    /// a repeated spend runs from it.
    pub first_spent_at: Timestamp,
    /// A broker still reads the answer of a call that it stopped waiting for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<LateReader>,
}

impl Intent {
    /// Whether the token may have been spent before this attempt.
    #[must_use]
    pub fn is_repeat(&self) -> bool {
        self.first_spent_at < self.opened_at
    }
}

/// The broker that still reads a late answer. It renews the note every few seconds, so that a
/// broker that died is not waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateReader {
    pub broker: String,
    pub until: Timestamp,
}

/// GHL refused the current refresh token. One refusal may be wrong, so it is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Of the token that was refused. A count of another generation is out of date: older
    /// programs do not remove it.
    pub generation: Generation,
    /// Times in a row.
    pub times: u32,
    /// The first time.
    pub since: Timestamp,
    /// Whether an answer of GHL for this token was lost before, so that its successor is gone.
    pub after_lost_answer: bool,
}

/// The chain of refresh tokens: its current link, and the token itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub consent: String,
    pub fingerprint: Fingerprint,
    pub refresh_token: Sealed,
}

/// The last refusal, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    pub kind: String,
    pub message: String,
    pub at: Timestamp,
    /// How often in a row GHL refused the client pair for this installation while others were
    /// refreshed with it.
    #[serde(default)]
    pub refused_alone: u32,
}

impl LastError {
    pub fn new(kind: impl Into<String>, message: impl Into<String>, at: Timestamp) -> Self {
        Self {
            kind: kind.into(),
            message: message.into(),
            at,
            refused_alone: 0,
        }
    }
}

/// A token that GHL issued and that did not become the current one. Never thrown away: it may be
/// the only one that works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alternate {
    /// The generation whose token was spent for it.
    pub spent_generation: Generation,
    /// The whole grant.
    pub grant: Sealed,
}

/// Everything the store knows of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    pub id: InstallationId,
    /// Status, generation and identity live in this half.
    pub access: StoredAccess,
    /// `None`: static.
    pub chain: Option<Chain>,
    pub intent: Option<Intent>,
    pub alternates: BTreeMap<Fingerprint, Alternate>,
    /// Since the last success.
    pub failures: u32,
    /// `Some` while GHL refuses the current refresh token: suspect at first, then invalid.
    pub refused: Option<Refused>,
    pub last_error: Option<LastError>,
    pub installed_at: Timestamp,
    pub refreshed_at: Option<Timestamp>,
    /// When the customer last consented.
    pub consented_at: Timestamp,
    /// When a broker is to look at it next: for a refresh, or because an attempt that is under way
    /// must have ended by then. `None`: never.
    pub due: Option<Timestamp>,
}

impl Installation {
    /// Whether its chain began with the consent of this name.
    #[must_use]
    pub fn is_of_consent(&self, name: &InstallationId) -> bool {
        let chain = self.chain.as_ref();
        chain.is_some_and(|chain| chain.consent == name.as_str())
    }

    /// The link that a refresh would spend now; `None` where nothing can be refreshed.
    #[must_use]
    pub fn link(&self) -> Option<Link> {
        self.chain.as_ref().map(|chain| Link {
            consent: chain.consent.clone(),
            generation: self.access.generation,
            fingerprint: chain.fingerprint.clone(),
        })
    }

    /// Whether GHL refused the current refresh token, and it is not given up yet.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.refused.is_some() && self.access.status == Status::Active
    }

    /// The brokers' half as fields. The other half is [`StoredAccess::to_fields`].
    ///
    /// # Panics
    /// Never: what is serialised is text and numbers.
    #[must_use]
    pub fn to_fields(&self) -> Fields {
        let json = |value: serde_json::Result<String>| value.expect("text and numbers serialise");
        let mut fields = Fields::new();
        fields.set_optional("consent", self.chain.as_ref().map(|chain| &chain.consent));
        fields.set_optional("fp", self.chain.as_ref().map(|chain| &chain.fingerprint));
        let token = self
            .chain
            .as_ref()
            .map(|chain| chain.refresh_token.as_bytes());
        fields.set_bytes("rt", token.unwrap_or_default().to_vec());
        let intent = self
            .intent
            .as_ref()
            .map(|intent| json(serde_json::to_string(intent)));
        fields.set_optional("intent", intent);
        for (fingerprint, alternate) in &self.alternates {
            let mut value = alternate.spent_generation.to_string().into_bytes();
            value.push(b' ');
            value.extend_from_slice(alternate.grant.as_bytes());
            fields.set_bytes(&format!("{ALTERNATE}{fingerprint}"), value);
        }
        fields.set("fails", self.failures);
        let refused = self
            .refused
            .as_ref()
            .map(|refused| json(serde_json::to_string(refused)));
        fields.set_optional("refused", refused);
        let error = self
            .last_error
            .as_ref()
            .map(|error| json(serde_json::to_string(error)));
        fields.set_optional("err", error);
        fields.set("made", self.installed_at.as_millis());
        fields.set("consented", self.consented_at.as_millis());
        fields.set_optional("done", self.refreshed_at.map(Timestamp::as_millis));
        fields.set_optional("due", self.due.map(Timestamp::as_millis));
        fields
    }

    /// # Errors
    /// When a field of either half is missing, malformed or of a newer schema.
    pub fn from_fields(
        id: InstallationId,
        access: &Fields,
        refresh: &Fields,
    ) -> Result<Self, Unreadable> {
        refresh.check_schema()?;
        let chain = match refresh.parse_optional("fp")? {
            None => None,
            Some(fingerprint) => Some(Chain {
                consent: refresh.parse("consent")?,
                fingerprint,
                refresh_token: Sealed::from_bytes(refresh.bytes("rt")?.to_vec()),
            }),
        };
        let access = StoredAccess::from_fields(access)?;
        let refused: Option<Refused> = parse_json(refresh, "refused")?;
        Ok(Self {
            id,
            refused: refused.filter(|refused| refused.generation == access.generation),
            access,
            chain,
            intent: parse_json(refresh, "intent")?,
            alternates: alternates(refresh)?,
            failures: refresh.parse("fails")?,
            last_error: parse_json(refresh, "err")?,
            installed_at: Timestamp::from_millis(refresh.parse("made")?),
            consented_at: Timestamp::from_millis(refresh.parse("consented")?),
            refreshed_at: refresh.parse_optional("done")?.map(Timestamp::from_millis),
            due: refresh.parse_optional("due")?.map(Timestamp::from_millis),
        })
    }
}

/// How a refresh token is sealed.
#[must_use]
pub fn refresh_label(installation: &InstallationId, generation: Generation) -> Label<'_> {
    Label {
        purpose: Purpose::RefreshToken,
        installation,
        generation,
    }
}

const ALTERNATE: &str = "alt:";

/// Whether a field holds an alternate: the only fields that ever go away.
pub(crate) fn is_alternate(field: &str) -> bool {
    field.starts_with(ALTERNATE)
}

fn parse_json<T: for<'de> Deserialize<'de>>(
    fields: &Fields,
    name: &'static str,
) -> Result<Option<T>, Unreadable> {
    let text: Option<String> = fields.parse_optional(name)?;
    text.map(|text| serde_json::from_str(&text).map_err(|_| Unreadable::Malformed(name)))
        .transpose()
}

fn alternates(fields: &Fields) -> Result<BTreeMap<Fingerprint, Alternate>, Unreadable> {
    let mut alternates = BTreeMap::new();
    for (name, value) in fields.iter() {
        let Some(fingerprint) = name.strip_prefix(ALTERNATE) else {
            continue;
        };
        let alternate = split_alternate(value).ok_or(Unreadable::Malformed("alt"))?;
        let Ok(fingerprint) = fingerprint.parse();
        alternates.insert(fingerprint, alternate);
    }
    Ok(alternates)
}

fn split_alternate(value: &[u8]) -> Option<Alternate> {
    let space = value.iter().position(|byte| *byte == b' ')?;
    let generation = std::str::from_utf8(&value[..space]).ok()?;
    Some(Alternate {
        spent_generation: generation.parse().ok()?,
        grant: Sealed::from_bytes(value[space + 1..].to_vec()),
    })
}
