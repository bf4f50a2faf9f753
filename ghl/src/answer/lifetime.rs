//! How long a token lives, whatever GHL says of it.
//!
//! A lifetime that is taken too long costs little: GHL answers 401, and the token is refreshed then.
//! One that is taken too short costs refreshes. So a value that cannot be right is replaced, and
//! every token gets a lifetime from one second to seven days, with which the rest can calculate.
//!
//! A value under a minute is unusual, but it may be true. It is not raised to a minute: the token
//! would be handed out after its end. Only a token that contradicts it, being a JWT with a longer
//! life, overrules it.

use std::fmt;
use std::time::Duration;

/// What a token lives where neither GHL nor the token says: the typical 24 h, less a second.
const TYPICAL: Duration = Duration::from_secs(86_399);
const SHORTEST: Duration = Duration::from_secs(1);
/// Below this a value is unusual.
const USUAL: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(7 * 86_400);
/// No more of a strange value is shown.
const SHOWN: usize = 32;

/// How long an access token lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifetime {
    /// From one second to seven days.
    pub value: Duration,
    /// What is odd about what GHL said. For the log.
    pub doubt: Option<Doubt>,
}

/// What is odd about an `expires_in`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// Under a minute, and taken as it is.
    Short,
    /// It cannot be right, and another value was taken.
    Replaced {
        /// The value as GHL wrote it, if it is anything like a number.
        said: String,
    },
}

impl Lifetime {
    /// From what GHL says, and from what the token claims.
    pub(super) fn of(said: Option<String>, claimed: Option<Duration>) -> Self {
        let claimed = claimed.filter(|life| *life >= SHORTEST);
        let claimed = claimed.map(|life| life.min(LONGEST));
        let known = |value| Self { value, doubt: None };
        let Some(said) = said else {
            return known(claimed.unwrap_or(TYPICAL));
        };
        let is_usual = |value: &Duration| (USUAL..=LONGEST).contains(value);
        let seconds = said.parse::<f64>().ok().and_then(plausible);
        match seconds {
            Some(value) if is_usual(&value) => known(value),
            Some(value) if claimed.is_none_or(|claimed| claimed < USUAL) => Self {
                value,
                doubt: Some(Doubt::Short),
            },
            Some(_) | None => {
                let milliseconds = || {
                    let seconds = said.parse::<f64>().ok()? / 1000.0;
                    plausible(seconds).filter(is_usual)
                };
                // Dates are not read: they would have to be compared with another machine's clock.
                let value = claimed.or_else(milliseconds).unwrap_or(TYPICAL);
                let doubt = Some(Doubt::Replaced {
                    said: presentable(&said),
                });
                Self { value, doubt }
            }
        }
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = humantime::format_duration(Duration::from_secs(self.value.as_secs()));
        match &self.doubt {
            None => write!(f, "the token lives for {value}"),
            Some(Doubt::Short) => write!(
                f,
                "GHL says that the token lives for {value} only: it is refreshed as often as that"
            ),
            Some(Doubt::Replaced { said }) => write!(
                f,
                "GHL's expires_in ({said}) cannot be right: {value} is taken instead"
            ),
        }
    }
}

fn plausible(seconds: f64) -> Option<Duration> {
    let value = Duration::try_from_secs_f64(seconds).ok()?;
    (SHORTEST..=LONGEST).contains(&value).then_some(value)
}

/// A value that may be shown: whatever else stands in that place may be a secret.
fn presentable(said: &str) -> String {
    let is_numeric = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E');
    if said.len() <= SHOWN && said.chars().all(is_numeric) {
        said.to_owned()
    } else {
        "no number".to_owned()
    }
}
