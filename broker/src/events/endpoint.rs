//! Endpoints: where messages are sent, and which ones.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ring::digest;
use store::random::to_hex;
use store::{AppName, LocationId};
use store_writer::events::EventType;
use url::Url;

use super::signature::SigningSecret;

/// The types of events that an endpoint can choose.
fn event_types() -> impl Iterator<Item = &'static str> {
    let all = EventType::ALL.into_iter();
    all.filter(|kind| *kind != EventType::Test)
        .map(EventType::as_str)
}

/// A receiver of messages.
#[derive(Clone)]
pub struct Endpoint {
    /// Unique among the endpoints of a deployment.
    pub id: EndpointId,
    /// Its path and query may be secret.
    pub url: Url,
    /// At least one. All sign, in this order.
    pub secrets: Vec<SigningSecret>,
    /// Which messages it gets.
    pub wants: Wants,
}

/// The id of an endpoint: a name that the operator chose, or `ep_` and 12 hex digits of the SHA-256 of its URL. Cheap to
/// clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(Arc<str>);

/// The text is no id of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadEndpointId {
    /// It is no name.
    #[error("a name has 1 to 32 lower-case letters, digits or `-`")]
    Name,
    /// It begins as the id of an endpoint without a name does.
    #[error("the id of an endpoint without a name is ep_ and 12 hex digits")]
    OfUrl,
}

/// Which messages an endpoint gets. An empty list means all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wants {
    /// evergreen's own events (`[[events]]`).
    Events {
        /// The types of events.
        types: Vec<EventPattern>,
        /// The apps that they are about.
        apps: Vec<AppName>,
    },
    /// GHL's webhooks, forwarded (`[[webhooks]]`).
    Webhooks {
        /// GHL's types, such as `ContactCreate`.
        types: Vec<String>,
        /// The locations that they are about.
        locations: Vec<LocationId>,
    },
}

/// A type of events, or all types of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventPattern {
    /// `installation.connected`.
    Exactly(&'static str),
    /// `installation.*`, as the prefix `installation.`.
    Group(String),
}

/// The text stands for no type of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the types of events are {}, and groups such as installation.*", event_types().collect::<Vec<_>>().join(", "))]
pub struct UnknownEventType;

/// The facts that decide whether an endpoint gets a message.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject<'a> {
    /// An event of evergreen.
    Event {
        /// The name of an [`EventType`].
        event_type: &'a str,
        /// The app that it is about.
        app: &'a AppName,
    },
    /// A webhook of GHL. Some of GHL's have no type, and some are about no location.
    Webhook {
        webhook_type: Option<&'a str>,
        location: Option<&'a LocationId>,
    },
}

impl Endpoint {
    /// Whether the endpoint gets this message.
    pub(crate) fn wants(&self, subject: &Subject<'_>) -> bool {
        self.wants.wants(subject)
    }
}

impl Wants {
    /// A message that does not say what a list asks for is not in it.
    fn wants(&self, subject: &Subject<'_>) -> bool {
        match (self, *subject) {
            (Self::Events { types, apps }, Subject::Event { event_type, app }) => {
                let is_type = types.is_empty() || types.iter().any(|it| it.matches(event_type));
                is_type && (apps.is_empty() || apps.contains(app))
            }
            (
                Self::Webhooks { types, locations },
                Subject::Webhook {
                    webhook_type,
                    location,
                },
            ) => {
                let has_type = |it: &str| types.iter().any(|wanted| wanted == it);
                let is_type = types.is_empty() || webhook_type.is_some_and(has_type);
                let is_location =
                    locations.is_empty() || location.is_some_and(|it| locations.contains(it));
                is_type && is_location
            }
            (Self::Events { .. }, Subject::Webhook { .. })
            | (Self::Webhooks { .. }, Subject::Event { .. }) => false,
        }
    }
}

impl EventPattern {
    fn matches(&self, event_type: &str) -> bool {
        match self {
            Self::Exactly(wanted) => *wanted == event_type,
            Self::Group(prefix) => event_type.starts_with(prefix),
        }
    }
}

impl fmt::Display for EventPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(wanted) => f.write_str(wanted),
            Self::Group(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl FromStr for EventPattern {
    type Err = UnknownEventType;

    fn from_str(text: &str) -> Result<Self, UnknownEventType> {
        let known = event_types().find(|it| *it == text);
        if let Some(exact) = known {
            return Ok(Self::Exactly(exact));
        }
        let prefix = text.strip_suffix('*').filter(|it| it.ends_with('.'));
        let group = Self::Group(prefix.ok_or(UnknownEventType)?.to_owned());
        let is_known = event_types().any(|it| group.matches(it));
        is_known.then_some(group).ok_or(UnknownEventType)
    }
}

impl EndpointId {
    const PREFIX: &str = "ep_";
    const DIGITS: usize = 12;

    /// The id of the endpoint of `EVERGREEN_EVENTS_URL`.
    pub(crate) fn default_one() -> Self {
        Self("default".into())
    }

    /// The id of an endpoint without a name.
    pub(crate) fn of_url(url: &Url) -> Self {
        let hash = digest::digest(&digest::SHA256, url.as_str().as_bytes());
        let digits = to_hex(&hash.as_ref()[..Self::DIGITS / 2]);
        Self(format!("{}{digits}", Self::PREFIX).into())
    }

    /// A name that an operator chose. It never looks like the id of an endpoint without a name.
    pub(crate) fn of_name(name: &str) -> Result<Self, BadEndpointId> {
        let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=32).contains(&name.len()) && name.bytes().all(is_allowed) {
            Ok(Self(name.into()))
        } else {
            Err(BadEndpointId::Name)
        }
    }

    /// The text of the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EndpointId {
    type Err = BadEndpointId;

    /// A name, or the id of an endpoint without one.
    fn from_str(text: &str) -> Result<Self, BadEndpointId> {
        let Some(digits) = text.strip_prefix(Self::PREFIX) else {
            return Self::of_name(text);
        };
        let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if digits.len() == Self::DIGITS && digits.bytes().all(is_digit) {
            Ok(Self(text.into()))
        } else {
            Err(BadEndpointId::OfUrl)
        }
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Endpoint {
    /// Only the host of the URL, since many receivers keep a secret in the path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("id", &self.id)
            .field("host", &self.url.host_str())
            .field("secrets", &self.secrets.len())
            .field("wants", &self.wants)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppName {
        name.parse().unwrap()
    }

    fn location(id: &str) -> LocationId {
        id.parse().unwrap()
    }

    #[test]
    fn events_are_chosen_by_type_and_app() {
        let wants = |types: &[&str], apps: &[&str]| Wants::Events {
            types: types.iter().map(|it| it.parse().unwrap()).collect(),
            apps: apps.iter().map(|it| app(it)).collect(),
        };
        let (staging, default) = (app("staging"), AppName::default());
        let event = |event_type, app| Subject::Event { event_type, app };
        let connected = event("installation.connected", &staging);
        assert!(wants(&[], &[]).wants(&connected));
        assert!(wants(&["installation.connected"], &[]).wants(&connected));
        assert!(wants(&["app.*", "installation.*"], &["x", "staging"]).wants(&connected));
        assert!(!wants(&["installation.paused", "app.*"], &[]).wants(&connected));
        assert!(!wants(&[], &["staging"]).wants(&event("installation.connected", &default)));
        let rejected = event("app.credentials_rejected", &default);
        assert!(!wants(&["installation.*"], &[]).wants(&rejected));
        let webhook = Subject::Webhook {
            webhook_type: Some("installation.connected"),
            location: None,
        };
        assert!(!wants(&[], &[]).wants(&webhook));
    }

    #[test]
    fn webhooks_are_chosen_by_type_and_location() {
        let wants = |types: &[&str], locations: &[&str]| Wants::Webhooks {
            types: types.iter().map(|it| (*it).to_owned()).collect(),
            locations: locations.iter().map(|it| location(it)).collect(),
        };
        let place = location("ve9EPM428h8vShlRW1KT");
        let webhook = |webhook_type, location| Subject::Webhook {
            webhook_type,
            location,
        };
        let created = webhook(Some("ContactCreate"), Some(&place));
        assert!(wants(&[], &[]).wants(&created));
        assert!(wants(&["ContactCreate"], &["ve9EPM428h8vShlRW1KT"]).wants(&created));
        assert!(!wants(&["contactcreate"], &[]).wants(&created));
        assert!(!wants(&[], &["other"]).wants(&created));
        // A webhook without a type or a location is in no list.
        let unnamed = webhook(None, None);
        assert!(wants(&[], &[]).wants(&unnamed));
        assert!(!wants(&["ContactCreate"], &[]).wants(&unnamed));
        assert!(!wants(&[], &["ve9EPM428h8vShlRW1KT"]).wants(&unnamed));
        let event = Subject::Event {
            event_type: "ContactCreate",
            app: &AppName::default(),
        };
        assert!(!wants(&[], &[]).wants(&event));
    }

    #[test]
    fn pattern_names_a_known_type_or_group() {
        for text in event_types().chain(["installation.*", "app.*"]) {
            assert!(text.parse::<EventPattern>().is_ok(), "{text}");
        }
        for text in [
            "",
            "*",
            ".*",
            "installation*",
            "instalation.*",
            "installation.",
            "installation.con*",
            "installation.moved",
            "Installation.connected",
        ] {
            assert_eq!(
                text.parse::<EventPattern>(),
                Err(UnknownEventType),
                "{text}"
            );
        }
    }

    #[test]
    fn id_is_a_name_or_made_of_the_url() {
        let url = Url::parse("https://example.com/hook").unwrap();
        let id = EndpointId::of_url(&url);
        assert_eq!(id.as_str().len(), 15);
        assert_ne!(
            id,
            EndpointId::of_url(&Url::parse("https://example.com/hooks").unwrap())
        );
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        assert!(EndpointId::of_name(id.as_str()).is_err());
        for name in ["a", "crm-2", &"x".repeat(32)] {
            assert_eq!(name.parse(), EndpointId::of_name(name));
            assert_eq!(EndpointId::of_name(name).unwrap().as_str(), name);
        }
        for name in ["", "A", "a_b", "a.b", "ä", &"x".repeat(33)] {
            assert_eq!(
                name.parse::<EndpointId>(),
                Err(BadEndpointId::Name),
                "{name}"
            );
        }
        let short = "ep_12".parse::<EndpointId>();
        assert_eq!(short, Err(BadEndpointId::OfUrl));
    }

    #[test]
    fn debug_output_shows_neither_path_nor_secret() {
        let endpoint = Endpoint {
            id: EndpointId::default_one(),
            url: Url::parse("https://example.com/hunter2?key=hunter2").unwrap(),
            secrets: vec!["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap()],
            wants: Wants::Events {
                types: Vec::new(),
                apps: Vec::new(),
            },
        };
        let shown = format!("{endpoint:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("MfKQ"),
            "{shown}"
        );
        assert!(shown.contains("example.com"), "{shown}");
    }
}
