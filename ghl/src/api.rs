//! Conventions of GHL's API.

/// Where GHL's API lives.
pub const DEFAULT_BASE_URL: &str = "https://services.leadconnectorhq.com";

/// The `Version` header that most operations want.
pub const DEFAULT_VERSION: &str = "2021-07-28";

/// Sent where the caller sent none: GHL's edge refuses the default agents of some libraries with
/// 403 "Error 1010".
pub const USER_AGENT: &str = concat!("evergreen/", env!("CARGO_PKG_VERSION"));

/// What a 401 of GHL's API means. Not every one is an expired token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unauthorized {
    /// The token is expired or unknown: a fresh one cures it.
    Expired,
    /// A missing or wrong version header, scope, user type or class of token: a fresh token would
    /// be refused as well.
    NotCuredByRefresh,
}

impl Unauthorized {
    /// What GHL says when a fresh token would not help, as integrators report it.
    const INCURABLE: [&str; 5] = [
        "version header",
        "not authorized for this scope",
        "user type mismatch",
        "authclass type is not allowed",
        "does not have access to this location",
    ];

    /// Tells by the body's text. An unknown text counts as expired: one refresh too many costs
    /// little, and an authentication failure that a refresh would have cured is a broken promise.
    #[must_use]
    pub fn classify(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body).to_ascii_lowercase();
        if Self::INCURABLE.iter().any(|known| text.contains(known)) {
            Self::NotCuredByRefresh
        } else {
            Self::Expired
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stale_token_asks_for_a_fresh_one() {
        let body = |message: &str| format!(r#"{{"statusCode":401,"message":"{message}"}}"#);
        for stale in ["Invalid JWT", "Invalid token: access token is invalid"] {
            let meaning = Unauthorized::classify(body(stale).as_bytes());
            assert_eq!(meaning, Unauthorized::Expired, "{stale}");
        }
        for incurable in [
            "version header was not found.",
            "version header is invalid",
            "The token is not authorized for this scope.",
            "Token's user type mismatch!",
            "This authClass type is not allowed to access this scope. Please try with a valid one",
        ] {
            let meaning = Unauthorized::classify(body(incurable).as_bytes());
            assert_eq!(meaning, Unauthorized::NotCuredByRefresh, "{incurable}");
        }
    }
}
