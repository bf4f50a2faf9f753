//! Conventions of GHL's API.

use url::Url;

/// The base URL of GHL's API.
pub const DEFAULT_BASE_URL: &str = "https://services.leadconnectorhq.com";

/// Whether a base URL is of GHL itself, and not of a sandbox or a proxy before GHL.
#[must_use]
pub fn is_ghl(base: &Url) -> bool {
    let host = base.host_str().unwrap_or_default();
    host == "leadconnectorhq.com" || host.ends_with(".leadconnectorhq.com")
}

/// The `Version` header that most operations require, by GHL's documents.
pub const DEFAULT_VERSION: &str = "2021-07-28";

/// The `User-Agent` header if the caller sends none. GHL's edge refuses the default agents of some libraries
/// with 403 "Error 1010", as integrators report.
pub const USER_AGENT: &str = concat!("evergreen/", env!("CARGO_PKG_VERSION"));

/// The meaning of a 401 from GHL's API. Not every 401 is an expired token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unauthorized {
    /// The token is expired or unknown. A retry with a fresh token can succeed.
    Expired,
    /// The version header, the scope, the user type or the class of the token is wrong. A fresh token would
    /// be refused as well.
    NotFixedByRefresh,
}

impl Unauthorized {
    /// GHL's messages if a fresh token does not help, as integrators report them.
    const NOT_FIXED_BY_REFRESH: [&str; 5] = [
        "version header",
        "not authorized for this scope",
        "user type mismatch",
        "authclass type is not allowed",
        "does not have access to this location",
    ];

    /// Classifies by the text of the body. An unknown text counts as expired: an unnecessary refresh costs
    /// little, but a missing one fails the caller's request.
    #[must_use]
    pub fn classify(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body).to_ascii_lowercase();
        if Self::NOT_FIXED_BY_REFRESH
            .iter()
            .any(|known| text.contains(known))
        {
            Self::NotFixedByRefresh
        } else {
            Self::Expired
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_expired_token_is_fixed_by_a_refresh() {
        let body = |message: &str| format!(r#"{{"statusCode":401,"message":"{message}"}}"#);
        for stale in ["Invalid JWT", "Invalid token: access token is invalid"] {
            let meaning = Unauthorized::classify(body(stale).as_bytes());
            assert_eq!(meaning, Unauthorized::Expired, "{stale}");
        }
        for unfixable in [
            "version header was not found.",
            "version header is invalid",
            "The token is not authorized for this scope.",
            "Token's user type mismatch!",
            "This authClass type is not allowed to access this scope. Please try with a valid one",
        ] {
            let meaning = Unauthorized::classify(body(unfixable).as_bytes());
            assert_eq!(meaning, Unauthorized::NotFixedByRefresh, "{unfixable}");
        }
    }
}
