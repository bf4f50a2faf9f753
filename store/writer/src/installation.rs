//! The whole record of an installation: the half that gateways read, and the half that only brokers read.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use store::key_list::RingKind;
use store::record::{APPS_SCHEMA, Fields, StoredAccess, Unreadable, access_label};
use store::seal::{Label, Purpose, Sealed};
use store::{
    ClientId, Customer, Generation, InstallationId, Status, Tag, Timestamp, UserType, keys, random,
};

use crate::details::Details;
use crate::grant::{self, ChainLink, Fingerprint};

/// The id of one attempt to refresh: 16 random hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IntentId(String);

impl IntentId {
    /// A new random id.
    #[must_use]
    pub fn random() -> Self {
        Self(random::hex::<8>())
    }

    /// The hex digits.
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

/// The stored intent to spend the refresh token. It stays open if its broker dies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The id of the attempt.
    pub id: IntentId,
    /// The name of the broker that made the attempt.
    pub holder: String,
    /// When the attempt began.
    pub opened_at: Timestamp,
    /// The end of the attempt's window. Afterwards the holder sends nothing, and the outcome is unknown.
    pub until: Timestamp,
    /// When this refresh token may first have been spent. A takeover keeps it, because GHL's grace period
    /// starts with it.
    pub first_spent_at: Timestamp,
    /// A broker that still reads the response of a call that it stopped waiting for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<LateReader>,
}

impl Intent {
    /// Whether an earlier attempt may have spent the token.
    #[must_use]
    pub fn is_retry(&self) -> bool {
        self.first_spent_at < self.opened_at
    }
}

/// The broker that still reads a late response. It renews the entry every few seconds, so that others do not
/// wait for a dead broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateReader {
    /// The name of the broker.
    pub broker: String,
    /// When the entry expires, unless it is renewed.
    pub until: Timestamp,
}

/// How often GHL refused the current refresh token. One refusal may be wrong, so the token is retried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalCount {
    /// The generation of the refused token. A count of another generation is outdated, because older builds
    /// do not remove it.
    pub generation: Generation,
    /// The number of refusals in a row.
    pub times: u32,
    /// When the first refusal came.
    pub since: Timestamp,
    /// Whether a response of GHL for this token was lost before, so that its successor is lost.
    pub after_lost_answer: bool,
}

/// The chain of refresh tokens: its current link and the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenChain {
    /// The name of the consent that started the chain.
    pub consent: String,
    /// The fingerprint of the refresh token.
    pub fingerprint: Fingerprint,
    /// The refresh token, sealed with [`refresh_label`].
    pub refresh_token: Sealed,
}

/// The last failure, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// The kind of failure, as in logs and metrics.
    pub kind: String,
    /// The failure in words.
    pub message: String,
    /// When it happened.
    pub at: Timestamp,
    /// How often in a row GHL refused the client credentials for this installation, while other installations
    /// were refreshed with them.
    #[serde(default)]
    pub refused_alone: u32,
}

impl LastError {
    /// A failure without refused client credentials.
    pub fn new(kind: impl Into<String>, message: impl Into<String>, at: Timestamp) -> Self {
        Self {
            kind: kind.into(),
            message: message.into(),
            at,
            refused_alone: 0,
        }
    }
}

/// A token pair that GHL issued and that did not become the current one. It is retained, because it may be
/// the only valid one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alternate {
    /// The generation whose token was spent for it.
    pub spent_generation: Generation,
    /// The whole grant, sealed with [`Grant::seal`](crate::Grant::seal).
    pub grant: Sealed,
}

/// The known facts about the locations on which an agency has installed the app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocationList {
    /// When GHL is asked for the list next.
    pub due: Timestamp,
    /// When GHL gave the whole list last. `None` if it has not since the agency's consent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed_at: Option<Timestamp>,
    /// The number of locations in that list.
    #[serde(default)]
    pub count: u64,
    /// Whether the app is installed on later locations, too. `None` if GHL has not said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_for_future_locations: Option<bool>,
    /// Failed attempts in a row.
    #[serde(default)]
    pub failures: u32,
    /// The last failure since the last list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<LastError>,
}

impl LocationList {
    /// A list that GHL is asked for at once.
    #[must_use]
    pub const fn due_at(due: Timestamp) -> Self {
        Self {
            due,
            listed_at: None,
            count: 0,
            is_for_future_locations: None,
            failures: 0,
            error: None,
        }
    }
}

/// The whole record of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The installation's id.
    pub id: InstallationId,
    /// The half that gateways read. It holds app, status, generation and the owner.
    pub access: StoredAccess,
    /// The client id that its refresh token was issued to, and works with. `None` if an older build stored it, or if it
    /// has no refresh token.
    pub client: Option<ClientId>,
    /// The chain of refresh tokens; `None`: static.
    pub chain: Option<TokenChain>,
    /// The open intent, if an attempt is in progress or its outcome is unknown.
    pub intent: Option<Intent>,
    /// Token pairs that may replace the current one, by fingerprint.
    pub alternates: BTreeMap<Fingerprint, Alternate>,
    /// Failed attempts since the last success.
    pub failures: u32,
    /// `Some` while GHL refuses the current refresh token. The installation is suspect at first, then
    /// invalid.
    pub refused: Option<RefusalCount>,
    /// The last failure since the last success.
    pub last_error: Option<LastError>,
    /// When the installation was first registered.
    pub installed_at: Timestamp,
    /// When the token was last granted.
    pub refreshed_at: Option<Timestamp>,
    /// When the customer last consented.
    pub consented_at: Timestamp,
    /// When its tokens came with a consent or an import. `None` for a location of an agency, and if an older build stored
    /// them. Webhooks move only `consented_at`.
    pub granted_at: Option<Timestamp>,
    /// When a broker must process its tokens next: for a refresh, because an attempt must have ended by then, or
    /// because a minted token expires. `None`: never.
    pub due: Option<Timestamp>,
    /// The locations of an agency. `None` for a location.
    pub locations: Option<LocationList>,
    /// Facts from GHL's webhooks.
    pub details: Option<Details>,
    /// The caller's own data about it.
    pub customer: Customer,
    /// Of the static token that the settings had when it was stored from them. `None` for any other installation.
    pub setting: Option<Fingerprint>,
}

impl Installation {
    /// Whether its chain began with the consent of this name.
    #[must_use]
    pub fn is_from_consent(&self, name: &InstallationId) -> bool {
        let chain = self.chain.as_ref();
        chain.is_some_and(|chain| chain.consent == name.as_str())
    }

    /// Whether its tokens are of a grant of its own that is not older than `asked_at`.
    #[must_use]
    pub fn is_granted_since(&self, asked_at: Timestamp) -> bool {
        let is_own = self.access.parent.is_none();
        is_own && self.granted_at.unwrap_or(self.consented_at) >= asked_at
    }

    /// The link that a refresh would spend now; `None` if there is no refresh token.
    #[must_use]
    pub fn link(&self) -> Option<ChainLink> {
        self.chain.as_ref().map(|chain| ChainLink {
            consent: chain.consent.clone(),
            generation: self.access.generation,
            fingerprint: chain.fingerprint.clone(),
        })
    }

    /// When a broker must look at it next.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        let list = self.locations.as_ref().map(|list| list.due);
        match self.access.status {
            Status::Active | Status::Paused => self.due.into_iter().chain(list).min(),
            Status::Invalid | Status::Revoked | Status::Static => self.due,
        }
    }

    /// The groups of installations that it belongs to, for [`store::keys::family`].
    #[must_use]
    pub fn families(&self) -> Vec<String> {
        let kin = match (&self.access.parent, self.access.user_type) {
            (Some(parent), _) => Some(parent.to_string()),
            (None, UserType::Company) => Some(keys::AGENCIES.to_owned()),
            (None, UserType::Location) => None,
        };
        let tags = self.customer.tags.iter().map(Tag::family);
        kin.into_iter().chain(tags).collect()
    }

    /// Whether it is a location of an agency that has no token now.
    #[must_use]
    pub fn is_asleep(&self, now: Timestamp) -> bool {
        let has_expired = self.access.expires_at.is_none_or(|end| end <= now);
        self.access.parent.is_some() && self.access.status == Status::Active && has_expired
    }

    /// Whether GHL refused the current refresh token, but the installation is still active.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.refused.is_some() && self.access.status == Status::Active
    }

    /// Everything in the record that this ring has sealed, each with its label.
    pub fn sealed_values(&self, ring: RingKind) -> Vec<(Label<'_>, &Sealed)> {
        let (id, generation) = (&self.id, self.access.generation);
        match ring {
            RingKind::Access if self.access.token.is_empty() => Vec::new(),
            RingKind::Access => vec![(access_label(id, generation), &self.access.token)],
            RingKind::Refresh => {
                let chain = self.chain.iter();
                let current =
                    chain.map(|chain| (refresh_label(id, generation), &chain.refresh_token));
                let alternates = self.alternates.values().map(|alternate| {
                    let label = grant::label(id, alternate.spent_generation);
                    (label, &alternate.grant)
                });
                current.chain(alternates).collect()
            }
        }
    }

    /// The brokers' half as stored fields. The other half is [`StoredAccess::to_fields`].
    ///
    /// # Panics
    /// Never. Text and numbers always serialize.
    #[must_use]
    pub fn to_fields(&self) -> Fields {
        let json = |value: serde_json::Result<String>| value.expect("text and numbers serialize");
        let mut fields = Fields::new();
        fields.set_optional("consent", self.chain.as_ref().map(|chain| &chain.consent));
        fields.set_optional("fp", self.chain.as_ref().map(|chain| &chain.fingerprint));
        fields.set_optional("cid", self.client.as_ref());
        if !self.access.app.is_default() {
            fields.set_min_schema(APPS_SCHEMA);
        }
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
        fields.set_optional("granted", self.granted_at.map(Timestamp::as_millis));
        fields.set_optional("done", self.refreshed_at.map(Timestamp::as_millis));
        fields.set_optional("due", self.due.map(Timestamp::as_millis));
        let locations = self
            .locations
            .as_ref()
            .map(|list| json(serde_json::to_string(list)));
        fields.set_optional("locs", locations);
        let details = self
            .details
            .as_ref()
            .map(|details| json(serde_json::to_string(details)));
        fields.set_optional("info", details);
        let customer = (!self.customer.is_empty()).then_some(&self.customer);
        let customer = customer.map(|customer| json(serde_json::to_string(customer)));
        fields.set_optional("cust", customer);
        fields.set_optional("src", self.setting.as_ref());
        fields
    }

    /// Reads the stored fields of both halves.
    ///
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
            Some(fingerprint) => Some(TokenChain {
                consent: refresh.parse("consent")?,
                fingerprint,
                refresh_token: Sealed::from_bytes(refresh.bytes("rt")?.to_vec()),
            }),
        };
        let access = StoredAccess::from_fields(access)?;
        let refused: Option<RefusalCount> = parse_json(refresh, "refused")?;
        Ok(Self {
            id,
            refused: refused.filter(|refused| refused.generation == access.generation),
            access,
            client: refresh.parse_optional("cid")?,
            chain,
            intent: parse_json(refresh, "intent")?,
            alternates: alternates(refresh)?,
            failures: refresh.parse("fails")?,
            last_error: parse_json(refresh, "err")?,
            installed_at: Timestamp::from_millis(refresh.parse("made")?),
            consented_at: Timestamp::from_millis(refresh.parse("consented")?),
            granted_at: refresh
                .parse_optional("granted")?
                .map(Timestamp::from_millis),
            refreshed_at: refresh.parse_optional("done")?.map(Timestamp::from_millis),
            due: refresh.parse_optional("due")?.map(Timestamp::from_millis),
            locations: parse_json(refresh, "locs")?,
            details: parse_json(refresh, "info")?,
            customer: parse_json(refresh, "cust")?.unwrap_or_default(),
            setting: refresh.parse_optional("src")?,
        })
    }
}

/// The label that a refresh token is sealed with.
#[must_use]
pub fn refresh_label(installation: &InstallationId, generation: Generation) -> Label<'_> {
    Label {
        purpose: Purpose::RefreshToken,
        installation,
        generation,
    }
}

const ALTERNATE: &str = "alt:";

/// Whether a field holds an alternate. Only these fields are ever removed.
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
