//! The lifetime of an access token, also if `expires_in` is missing or implausible.
//!
//! A lifetime that is too long costs little: GHL responds with 401, and the token is refreshed then. One that
//! is too short costs refreshes. An implausible value is therefore replaced, and every token gets a lifetime
//! from one second to seven days.
//!
//! A value under a minute is unusual but may be true. It is not raised to a minute, because the token would
//! then be used after its end. Only the token's own claims overrule it, if they state a longer lifetime.

use std::fmt;
use std::time::Duration;

/// The lifetime if neither GHL nor the token states one. GHL's documents show 86399 s.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(86_399);
const MIN_LIFETIME: Duration = Duration::from_secs(1);
/// Below this a value is unusual.
const USUAL_MINIMUM: Duration = Duration::from_secs(60);
const MAX_LIFETIME: Duration = Duration::from_secs(7 * 86_400);
/// The longest part of an implausible value that is shown.
const MAX_SHOWN_CHARS: usize = 32;

/// The lifetime of an access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifetime {
    /// From one second to seven days.
    pub value: Duration,
    /// The reason why GHL's value is unusual. For the log.
    pub warning: Option<LifetimeWarning>,
}

/// The reason why an `expires_in` is unusual.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LifetimeWarning {
    /// Under a minute. Used as it is.
    Short,
    /// Implausible. Another value is used instead.
    Replaced {
        /// GHL's value if it looks like a number.
        stated: String,
    },
}

impl Lifetime {
    /// The lifetime from GHL's `expires_in` and the token's claims.
    pub(crate) fn of(stated: Option<String>, claimed: Option<Duration>) -> Self {
        let claimed = claimed.filter(|life| *life >= MIN_LIFETIME);
        let claimed = claimed.map(|life| life.min(MAX_LIFETIME));
        let plain = |value| Self {
            value,
            warning: None,
        };
        let Some(stated) = stated else {
            return plain(claimed.unwrap_or(DEFAULT_LIFETIME));
        };
        let is_usual = |value: &Duration| (USUAL_MINIMUM..=MAX_LIFETIME).contains(value);
        let seconds = stated.parse::<f64>().ok().and_then(plausible);
        match seconds {
            Some(value) if is_usual(&value) => plain(value),
            Some(value) if claimed.is_none_or(|claimed| claimed < USUAL_MINIMUM) => Self {
                value,
                warning: Some(LifetimeWarning::Short),
            },
            Some(_) | None => {
                let milliseconds = || {
                    let seconds = stated.parse::<f64>().ok()? / 1000.0;
                    plausible(seconds).filter(is_usual)
                };
                // Dates are not parsed: they would have to be compared with the clock of another machine.
                let value = claimed.or_else(milliseconds).unwrap_or(DEFAULT_LIFETIME);
                let warning = Some(LifetimeWarning::Replaced {
                    stated: redact(&stated),
                });
                Self { value, warning }
            }
        }
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = humantime::format_duration(Duration::from_secs(self.value.as_secs()));
        match &self.warning {
            None => write!(f, "the token lives for {value}"),
            Some(LifetimeWarning::Short) => write!(
                f,
                "GHL says that the token lives for only {value}: it is refreshed that often"
            ),
            Some(LifetimeWarning::Replaced { stated }) => write!(
                f,
                "GHL's expires_in ({stated}) is implausible: {value} is used instead"
            ),
        }
    }
}

fn plausible(seconds: f64) -> Option<Duration> {
    let value = Duration::try_from_secs_f64(seconds).ok()?;
    (MIN_LIFETIME..=MAX_LIFETIME)
        .contains(&value)
        .then_some(value)
}

/// The value for the log. Only a number is shown, because any other text may be a secret.
fn redact(stated: &str) -> String {
    let is_numeric = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E');
    if stated.len() <= MAX_SHOWN_CHARS && stated.chars().all(is_numeric) {
        stated.to_owned()
    } else {
        "not a number".to_owned()
    }
}
