//! Reads settings and collects the mistakes in them.

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::fs;
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;
use url::{Host, Url};

use super::place::{self, place};
use super::reads::{Kind, Read, Reads};
use super::value::{is_placeholder, is_shortened, unquoted};
use super::{Origin, Source, nearest, secret_command, without_mark};

/// Added to the time, a longer duration could overflow.
const MAX_DURATION: Duration = Duration::from_secs(10 * 366 * 86_400);

const PLACEHOLDER: &str =
    "is still the placeholder of a manual or an example: put the real value in its place";

/// Reads settings and collects every mistake.
///
/// A mistake is replaced by a harmless placeholder, so that reading continues. Only [`finish`](Settings::finish)
/// returns the result, and it fails if there was a mistake.
#[must_use = "`finish` returns the mistakes"]
pub struct Settings<'a> {
    source: &'a dyn Source,
    mistakes: Vec<Mistake>,
    reads: Reads,
}

/// All mistakes in the settings, one per line, in the order they were read.
#[derive(Debug, thiserror::Error)]
pub struct Mistakes(Vec<Mistake>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mistake {
    key: String,
    message: String,
}

impl<'a> Settings<'a> {
    /// Settings from this source. Mistakes are collected until `finish`.
    pub fn new(source: &'a dyn Source) -> Self {
        Self {
            source,
            mistakes: Vec::new(),
            reads: Reads::default(),
        }
    }

    /// Where the settings come from.
    #[must_use]
    pub fn source(&self) -> &'a dyn Source {
        self.source
    }

    /// Where this setting is set. `None` if it is not, or if its source does not know.
    #[must_use]
    pub fn origin(&self, key: &str) -> Option<Origin> {
        self.source.origin(key)
    }

    /// The setting, trimmed. An empty one counts as unset.
    pub fn text(&mut self, key: &str) -> Option<String> {
        self.get(key)
    }

    /// Like [`text`](Self::text), with a default.
    pub fn text_or(&mut self, key: &str, default: &str) -> String {
        self.reads.note_default(key, default.to_owned());
        self.get(key).unwrap_or_else(|| default.to_owned())
    }

    /// An id or a name that somebody else gave, as [`text`](Self::text). A word that manuals write in its place is a
    /// mistake.
    pub fn refuse_placeholder(&mut self, key: &str) {
        if self.get(key).is_some_and(|value| is_placeholder(&value)) {
            self.mistake(key, PLACEHOLDER);
        }
    }

    /// Marks a setting whose value is not for everybody's eyes, such as a URL with a secret path.
    pub fn hide(&mut self, key: &str) {
        self.reads.note(key, Kind::Secret);
    }

    /// All settings that were read so far, by name.
    #[must_use]
    pub fn reads(&self) -> Vec<Read> {
        let all = self.reads.iter().map(|(key, kind, default)| {
            let has_mistake = self.mistakes.iter().any(|it| it.key == key);
            let is_shown = kind != Kind::Secret && !has_mistake;
            let value = self.source.get(key).map(|it| it.trim().to_owned());
            let value = value.filter(|it| !it.is_empty());
            let is_set = value.is_some();
            Read {
                key: key.to_owned(),
                kind,
                value: value.filter(|_| is_shown),
                origin: is_set.then(|| {
                    let origin = self.source.origin(key);
                    origin.unwrap_or(Origin::Program)
                }),
                default: default.map(str::to_owned),
            }
        });
        all.collect()
    }

    /// A required setting. `help` completes "KEY is not set: …".
    pub fn required(&mut self, key: &str, help: &str) -> String {
        self.get(key).unwrap_or_else(|| {
            self.mistake(key, format!("is not set: {help}"));
            String::new()
        })
    }

    /// A secret: `KEY`, or the trimmed content of the file that `KEY_FILE` names. In a section it is `key_file`.
    pub fn secret(&mut self, key: &str) -> Option<SecretString> {
        let file_key = file_key(key);
        self.reads.note(key, Kind::Secret);
        self.reads.note(&file_key, Kind::SecretFile);
        match (self.get(key), self.get(&file_key)) {
            (None, None) => None,
            (Some(secret), None) => Some(self.checked_secret(key, secret)),
            (None, Some(path)) => self.secret_in_file(key, &path),
            (Some(_), Some(_)) => {
                self.mistake(
                    key,
                    format!("and {} are both set: keep one", place(&file_key)),
                );
                None
            }
        }
    }

    /// A secret as [`secret`](Self::secret), or the trimmed output of the command in the setting `command_key`. The
    /// command runs now, without a shell.
    pub fn secret_or_command(&mut self, key: &str, command_key: &str) -> Option<SecretString> {
        self.reads.note(command_key, Kind::Secret);
        let Some(command) = self.get(command_key) else {
            return self.secret(key);
        };
        let file_key = file_key(key);
        self.reads.note(key, Kind::Secret);
        self.reads.note(&file_key, Kind::SecretFile);
        if self.get(key).is_some() || self.get(&file_key).is_some() {
            self.mistake(
                command_key,
                format!("is set, and so is {key} or {file_key}: keep one"),
            );
            return None;
        }
        match secret_command::run(&command) {
            Ok(secret) => Some(secret),
            Err(reason) => {
                self.mistake(command_key, reason.to_string());
                None
            }
        }
    }

    /// A value with a default. `expected` completes "KEY must be …, but is …". The mistake quotes the value, so this
    /// is not for secrets.
    pub fn parse<T: FromStr + Display>(&mut self, key: &str, default: T, expected: &str) -> T
    where
        T::Err: Display,
    {
        self.reads.note_default(key, default.to_string());
        self.parse_optional(key, expected).unwrap_or(default)
    }

    /// Like [`parse`](Self::parse), but `None` if the setting is unset.
    pub fn parse_optional<T: FromStr>(&mut self, key: &str, expected: &str) -> Option<T>
    where
        T::Err: Display,
    {
        let text = self.get(key)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(reason) => {
                self.mistake(
                    key,
                    format!("must be {expected}, but is {text:?}: {reason}"),
                );
                None
            }
        }
    }

    /// A duration with its unit, such as "5m", "1h30m" or "250ms". At most 10 years.
    pub fn duration(&mut self, key: &str, default: Duration) -> Duration {
        let expected = "a duration with its unit, such as 5m, 1h30m or 250ms";
        let value = self.parse(key, humantime::Duration::from(default), expected);
        if *value > MAX_DURATION {
            self.mistake(key, "is longer than 10 years");
            return default;
        }
        value.into()
    }

    /// An http or https URL without user and password. The mistake does not quote the value, since it may contain a
    /// password.
    ///
    /// # Panics
    /// If `default`, which is part of the program, is not a URL.
    pub fn url(&mut self, key: &str, default: &str) -> Url {
        self.reads.note_default(key, default.to_owned());
        self.url_optional(key).unwrap_or_else(|| {
            Url::parse(default)
                .unwrap_or_else(|reason| panic!("the default of {key} is not a URL: {reason}"))
        })
    }

    /// Like [`url`](Self::url), for a peer to which secrets are sent. Beyond this machine it must be https, unless
    /// `EVERGREEN_ALLOW_CLEARTEXT` is `true`.
    ///
    /// # Panics
    /// If `default`, which is part of the program, is not a URL.
    pub fn url_for_secrets(&mut self, key: &str, default: &str) -> Url {
        let url = self.url(key, default);
        self.refuse_cleartext(key, &url, "tokens and keys");
        url
    }

    /// A mistake if the URL of a setting is `http://` and leads beyond this machine, unless `EVERGREEN_ALLOW_CLEARTEXT`
    /// is `true`. `sent` is what others could read on the way.
    pub fn refuse_cleartext(&mut self, key: &str, url: &Url, sent: &str) {
        let is_allowed = self.parse("EVERGREEN_ALLOW_CLEARTEXT", false, "true or false");
        if url.scheme() == "http" && !is_loopback(url) && !is_allowed {
            self.mistake(
                key,
                format!(
                    "is http://, and leads beyond this machine: everyone on the way could read {sent}. Use https://, or \
                     set EVERGREEN_ALLOW_CLEARTEXT=true where the network is private"
                ),
            );
        }
    }

    /// Like [`url`](Self::url), but `None` if the setting is unset.
    pub fn url_optional(&mut self, key: &str) -> Option<Url> {
        let text = self.get(key)?;
        match http_url(&text) {
            Ok(url) => Some(url),
            Err(reason) => {
                let expected = "an http or https URL without user and password";
                self.mistake(key, format!("must be {expected}: {reason}"));
                None
            }
        }
    }

    /// The names of the sections of a kind: `a` and `b` if the settings have `apps.a.x` and `apps.b.x`. In ascending order.
    #[must_use]
    pub fn sections(&self, kind: &str) -> Vec<String> {
        let keys = self.source.keys();
        let names = keys.iter().filter_map(|key| {
            let below = key.strip_prefix(kind)?.strip_prefix('.')?;
            Some(below.split_once('.')?.0.to_owned())
        });
        BTreeSet::from_iter(names).into_iter().collect()
    }

    /// The sections of a list such as `[[events]]`, in their order: `events.1`, `events.2`.
    #[must_use]
    pub fn list(&self, list: &str) -> Vec<String> {
        let keys = self.source.keys();
        let numbers = keys.iter().filter_map(|key| place::number(list, key));
        let sorted = BTreeSet::from_iter(numbers).into_iter();
        sorted.map(|number| format!("{list}.{number}")).collect()
    }

    /// Reports the settings of a section that are not among `known`.
    pub fn check_section(&mut self, section: &str, known: &[&str]) {
        let mut keys = self.source.keys();
        keys.sort_unstable();
        for key in keys {
            let field = key
                .strip_prefix(section)
                .and_then(|below| below.strip_prefix('.'));
            if field.is_some_and(|field| !known.contains(&field)) {
                let meant = field.and_then(|field| nearest(field, known.iter().copied()));
                let meant = meant.map(|meant| format!("did you mean {meant}? There are "));
                let meant = meant.unwrap_or_else(|| "there are ".to_owned());
                let message = format!("is no setting: {meant}{}", known.join(", "));
                self.mistake(&key, message);
            }
        }
    }

    /// Adds a mistake that only the caller can detect, such as two settings that contradict each other. `message`
    /// completes "KEY …".
    pub fn mistake(&mut self, key: &str, message: impl Into<String>) {
        let mistake = Mistake {
            key: key.to_owned(),
            message: message.into(),
        };
        // Two parts of one process may read the same setting.
        if !self.mistakes.contains(&mistake) {
            self.mistakes.push(mistake);
        }
    }

    /// `value`, if there was no mistake.
    pub fn finish<T>(self, value: T) -> Result<T, Mistakes> {
        if self.mistakes.is_empty() {
            Ok(value)
        } else {
            Err(Mistakes(self.mistakes))
        }
    }

    /// The trimmed value. A line end that was copied with a secret is not part of the secret.
    fn get(&mut self, key: &str) -> Option<String> {
        self.reads.note(key, Kind::Plain);
        let value = self.source.get(key)?;
        let value = self.unquote(key, value.trim());
        if is_shortened(&value) && !is_prose(key) {
            self.mistake(key, PLACEHOLDER);
        }
        (!value.is_empty()).then_some(value)
    }

    /// The value without quotes, which are a mistake. A command line may begin and end with a quote.
    fn unquote(&mut self, key: &str, value: &str) -> String {
        let inner = unquoted(value).filter(|_| !key.ends_with("_COMMAND"));
        if inner.is_some() {
            self.mistake(
                key,
                "is in quotes, and they are part of the value: write it without them (`docker run --env-file` keeps \
                 quotes, as Kubernetes does)",
            );
        }
        inner.unwrap_or(value).to_owned()
    }

    /// The secret, after a look at how it was copied.
    fn checked_secret(&mut self, key: &str, secret: String) -> SecretString {
        if is_placeholder(&secret) || is_shortened(&secret) {
            self.mistake(key, PLACEHOLDER);
        }
        secret.into()
    }

    /// A mistake does not quote the path, since it may be a secret that was pasted into the wrong variable.
    fn secret_in_file(&mut self, key: &str, path: &str) -> Option<SecretString> {
        let content = fs::read_to_string(path);
        let problem = match content.as_deref().map(|text| without_mark(text).trim()) {
            Ok("") => "is empty".to_owned(),
            Ok(secret) => {
                let secret = self.unquote(key, secret);
                return Some(self.checked_secret(key, secret));
            }
            Err(reason) => format!("cannot be read: {reason}"),
        };
        self.mistake(
            key,
            format!(
                "is missing: the file that {} names {problem}",
                place(&file_key(key))
            ),
        );
        None
    }
}

impl fmt::Debug for Settings<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Settings")
            .field("mistakes", &self.mistakes)
            .finish_non_exhaustive()
    }
}

impl Display for Mistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Mistake { key, message }) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(formatter, "{separator}{} {message}", place(key))?;
        }
        Ok(())
    }
}

/// Whether the value is a text for people, which may have any character.
fn is_prose(key: &str) -> bool {
    key == "EVERGREEN_APP_TITLE" || key.ends_with(".title")
}

/// The name of the setting with the path of a secret's file.
fn file_key(key: &str) -> String {
    match key.bytes().any(|byte| byte.is_ascii_lowercase()) {
        true => format!("{key}_file"),
        false => format!("{key}_FILE"),
    }
}

/// Whether a URL leads to this machine. The unspecified address, such as `0.0.0.0`, does.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback() || address.is_unspecified(),
        Some(Host::Ipv6(address)) => address.is_loopback() || address.is_unspecified(),
        None => false,
    }
}

fn http_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|reason| reason.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("it has another scheme".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it contains one".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests;
