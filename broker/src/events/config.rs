//! The settings of endpoints.
//!
//! The endpoint `default` comes from `EVERGREEN_EVENTS_URL` and `EVERGREEN_EVENTS_SECRET`. More come from the lists
//! `[[events]]` and `[[webhooks]]` of the settings file.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};
use service::config::{Settings, place};
use store::{AppName, LocationId};
use url::Url;

use super::address::PrivateAddresses;
use super::endpoint::{Endpoint, EndpointId, Wants};
use super::signature::SigningSecret;
use crate::apps;

const URL: &str = "EVERGREEN_EVENTS_URL";
const SECRET: &str = "EVERGREEN_EVENTS_SECRET";
const EVENTS: &str = "events";
const WEBHOOKS: &str = "webhooks";
const SHARED_FIELDS: [&str; 6] = [
    "name",
    "secret",
    "secret_file",
    "secrets",
    "secrets_file",
    "url",
];
/// Reads all endpoints. Mistakes are collected in `settings`.
pub(crate) fn read(
    settings: &mut Settings<'_>,
    private_addresses: PrivateAddresses,
) -> Vec<Endpoint> {
    let mut reader = Reader {
        apps: apps::config::names(settings),
        private_addresses,
        settings,
    };
    let mut endpoints = Vec::new();
    endpoints.extend(reader.read_default());
    for section in reader.settings.list(EVENTS) {
        endpoints.extend(reader.read_section(&section, &["apps", "types"], Reader::events));
    }
    for section in reader.settings.list(WEBHOOKS) {
        endpoints.extend(reader.read_section(&section, &["locations", "types"], Reader::webhooks));
    }
    refuse_repetitions(settings, &endpoints);
    endpoints.into_iter().map(|(_, it)| it).collect()
}

/// Reads whether private addresses may be reached.
pub(crate) fn read_private_addresses(settings: &mut Settings<'_>) -> PrivateAddresses {
    match settings.parse("EVERGREEN_EVENTS_ALLOW_PRIVATE", false, "true or false") {
        true => PrivateAddresses::Allowed,
        false => PrivateAddresses::Refused,
    }
}

/// An endpoint, and the setting with its URL.
type Placed = (String, Endpoint);

struct Reader<'r, 's> {
    settings: &'r mut Settings<'s>,
    private_addresses: PrivateAddresses,
    /// The apps that the settings name.
    apps: Vec<AppName>,
}

impl Reader<'_, '_> {
    fn read_default(&mut self) -> Option<Placed> {
        if self.settings.text(URL).is_none() {
            if self.settings.secret(SECRET).is_some() {
                let problem = format!("signs events for {URL}, which is not set");
                self.settings.mistake(SECRET, problem);
            }
            return None;
        }
        let url = self.url(URL);
        let secrets = self.secrets(&[(SECRET, &format!("{SECRET}_FILE"))]);
        let endpoint = Endpoint {
            id: EndpointId::default_one(),
            url: url?,
            secrets: secrets?,
            wants: Wants::Events {
                types: Vec::new(),
                apps: Vec::new(),
            },
        };
        Some((URL.to_owned(), endpoint))
    }

    /// An endpoint of a list. All its fields are read before one that is wrong counts.
    fn read_section(
        &mut self,
        section: &str,
        fields: &[&str],
        wants: fn(&mut Self, &str) -> Wants,
    ) -> Option<Placed> {
        let key = |field: &str| format!("{section}.{field}");
        let mut known = [&SHARED_FIELDS, fields].concat();
        known.sort_unstable();
        self.settings.check_section(section, &known);
        self.settings
            .required(&key("url"), "where messages are sent");
        let url = self.url(&key("url"));
        let secrets = self.secrets(&[
            (&key("secret"), &key("secret_file")),
            (&key("secrets"), &key("secrets_file")),
        ]);
        let name = self.settings.text(&key("name"));
        let name = name.map(|name| EndpointId::of_name(&name));
        if let Some(Err(error)) = &name {
            self.settings
                .mistake(&key("name"), format!("is none: {error}"));
        }
        let wants = wants(self, section);
        let url = url?;
        let endpoint = Endpoint {
            id: match name {
                Some(name) => name.ok()?,
                None => EndpointId::of_url(&url),
            },
            url,
            secrets: secrets?,
            wants,
        };
        Some((key("url"), endpoint))
    }

    fn events(&mut self, section: &str) -> Wants {
        let apps_key = format!("{section}.apps");
        let apps: Vec<AppName> = self.list(&apps_key);
        let (known, unknown): (Vec<_>, Vec<_>) =
            apps.into_iter().partition(|app| self.apps.contains(app));
        for app in unknown {
            let problem = format!("has {app}, and there is no section [apps.{app}]");
            self.settings.mistake(&apps_key, problem);
        }
        Wants::Events {
            types: self.list(&format!("{section}.types")),
            apps: known,
        }
    }

    fn webhooks(&mut self, section: &str) -> Wants {
        let types: Vec<WebhookType> = self.list(&format!("{section}.types"));
        let locations: Vec<LocationId> = self.list(&format!("{section}.locations"));
        Wants::Webhooks {
            types: types.into_iter().map(|WebhookType(it)| it).collect(),
            locations,
        }
    }

    /// A URL to which events may be sent.
    fn url(&mut self, key: &str) -> Option<Url> {
        // Its path and query may be secret.
        self.settings.hide(key);
        let url = self.settings.url_optional(key)?;
        self.settings
            .refuse_cleartext(key, &url, "what is sent there");
        if let Err(refused) = self.private_addresses.check_url(&url) {
            self.settings.mistake(
                key,
                format!(
                    "is refused: {refused}. If the receiver is within your own network, set \
                     EVERGREEN_EVENTS_ALLOW_PRIVATE=true"
                ),
            );
            return None;
        }
        Some(url)
    }

    /// All secrets in these settings. Each may have several, or a file with them. `None` if there is a mistake, which
    /// names the last setting.
    fn secrets(&mut self, fields: &[(&str, &str)]) -> Option<Vec<SigningSecret>> {
        let &(key, file_key) = fields.last()?;
        let (mut secrets, mut has_mistake) = (Vec::new(), false);
        let mut texts: Vec<SecretString> = Vec::new();
        for (key, file_key) in fields {
            let is_set = [key, file_key].map(|it| self.settings.text(it).is_some());
            match self.settings.secret(key) {
                Some(text) => texts.push(text),
                // It is set and cannot be read, and that was reported.
                None => has_mistake |= is_set.contains(&true),
            }
        }
        let texts = texts.iter().flat_map(|list| split(list.expose_secret()));
        for (number, text) in (1..).zip(texts) {
            match text.parse() {
                Ok(secret) => secrets.push(secret),
                Err(error) => {
                    has_mistake = true;
                    self.settings
                        .mistake(key, format!("is wrong: secret {number} {error}"));
                }
            }
        }
        if secrets.is_empty() && !has_mistake {
            let problem = format!(
                "is missing: whsec_ and base64 of 24 to 64 random bytes, such as the output of `echo whsec_$(openssl \
                 rand -base64 32)`. A file with it can be named instead ({})",
                place(file_key)
            );
            self.settings.mistake(key, problem);
        }
        (!secrets.is_empty() && !has_mistake).then_some(secrets)
    }

    /// A list of a section, without the items that are wrong. A mistake does not quote an item, since it may be a secret
    /// in the wrong field.
    fn list<T: FromStr>(&mut self, key: &str) -> Vec<T>
    where
        T::Err: Display,
    {
        let text = self.settings.text(key).unwrap_or_default();
        let mut items = Vec::new();
        for (number, item) in (1..).zip(split(&text)) {
            match item.parse() {
                Ok(item) => items.push(item),
                Err(error) => self.settings.mistake(
                    key,
                    format!("is wrong: item {number} is not valid: {error}"),
                ),
            }
        }
        items
    }
}

/// A type of GHL's webhooks. GHL adds new ones, so any word is one.
struct WebhookType(String);

impl FromStr for WebhookType {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        let is_type = text.len() <= 64 && text.bytes().all(is_allowed);
        is_type
            .then(|| Self(text.to_owned()))
            .ok_or("a type of GHL's webhooks is a word such as ContactCreate")
    }
}

/// The items of a list: lines in a list of TOML, or separated by commas.
fn split(list: &str) -> impl Iterator<Item = &str> {
    let items = list.split([',', '\n']).map(str::trim);
    items.filter(|item| !item.is_empty())
}

/// Messages are stored by the id of their endpoint.
fn refuse_repetitions(settings: &mut Settings<'_>, endpoints: &[Placed]) {
    let mut places: BTreeMap<&EndpointId, &str> = BTreeMap::new();
    for (key, endpoint) in endpoints {
        if let Some(earlier) = places.insert(&endpoint.id, key) {
            settings.mistake(
                key,
                format!(
                    "belongs to an endpoint with the same id as that of {}, which is {}: give one of them another name",
                    place(earlier),
                    endpoint.id
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests;
