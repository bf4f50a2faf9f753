//! The addresses to which a customer's browser may be sent after a consent.

use service::config::Settings;
use url::{Host, Url};

const SETTING: &str = "EVERGREEN_RETURN_URLS";
/// The longest address, in bytes. The public link carries it through GHL.
pub(crate) const LONGEST: usize = 1000;

/// The origins and prefixes that the operator allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReturnUrls(Vec<Url>);

impl ReturnUrls {
    /// Reads the setting. Mistakes are collected in `settings`.
    pub(crate) fn read(settings: &mut Settings<'_>) -> Self {
        let list = settings.text(SETTING).unwrap_or_default();
        let texts = list.split(',').map(str::trim).filter(|it| !it.is_empty());
        let mut allowed = Vec::new();
        for text in texts {
            match parse(text) {
                Ok(url) if url.query().is_none() => allowed.push(url),
                Ok(_) => settings.mistake(SETTING, "has an address with a query: leave it out"),
                Err(problem) => settings.mistake(SETTING, format!("has an address that {problem}")),
            }
        }
        Self(allowed)
    }

    /// Parses the address in a one-time link. A caller with a key made it, so every address is allowed if the operator
    /// has named none.
    ///
    /// # Errors
    /// A message if the browser must not be sent there.
    pub(crate) fn of_caller(&self, text: &str) -> Result<Url, String> {
        let url = parse(text).map_err(|problem| format!("`return_to` {problem}"))?;
        match self.0.is_empty() || self.allow(&url) {
            true => Ok(url),
            false => Err(not_allowed()),
        }
    }

    /// Parses the address in the public link. Without a setting a browser is sent only to its own machine, and only if
    /// `callback` is there, too. This is for development.
    ///
    /// # Errors
    /// A message if the browser must not be sent there.
    pub(crate) fn of_browser(&self, text: &str, callback: &Url) -> Result<Url, String> {
        let url = parse(text).map_err(|problem| format!("`return_to` {problem}"))?;
        let is_at_home = self.0.is_empty() && is_loopback(&url) && is_loopback(callback);
        match is_at_home || self.allow(&url) {
            true => Ok(url),
            false => Err(not_allowed()),
        }
    }

    fn allow(&self, url: &Url) -> bool {
        self.0.iter().any(|allowed| {
            let prefix = allowed.path().trim_end_matches('/');
            let rest = url.path().strip_prefix(prefix);
            let is_below = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            allowed.origin() == url.origin() && is_below
        })
    }
}

fn not_allowed() -> String {
    format!("`return_to` is not among {SETTING}: the operator must add its origin there")
}

/// An address of the web. Elsewhere than on this machine it is https, since its query names the customer.
fn parse(text: &str) -> Result<Url, String> {
    let url: Url = text
        .parse()
        .map_err(|error| format!("is no URL: {error}"))?;
    if text.len() > LONGEST {
        return Err(format!("is longer than {LONGEST} bytes"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name or a password: leave it out".to_owned());
    }
    match url.scheme() {
        "https" if url.has_host() => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err("must begin with https://, or be on this machine".to_owned()),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(list: &[&str]) -> ReturnUrls {
        ReturnUrls(list.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn origin_or_prefix_must_match_as_a_whole() {
        let urls = allowed(&["https://app.example", "https://other.example/back/"]);
        for good in [
            "https://app.example/",
            "https://app.example/a/b?x=1",
            "https://other.example/back",
            "https://other.example/back/x",
        ] {
            assert!(urls.of_caller(good).is_ok(), "{good}");
        }
        for bad in [
            "https://app.example.evil.example/",
            "https://app.example:8443/",
            "http://app.example/",
            "https://user@app.example/",
            "https://other.example/backstage",
            "https://other.example/back/../admin",
            "https://other.example/",
            "javascript:alert(1)",
            "//app.example/",
            "/back",
        ] {
            assert!(urls.of_caller(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn public_link_leads_only_where_the_operator_allows() {
        let (public, home) = (
            "https://broker.example/oauth/callback",
            "http://127.0.0.1:8080/",
        );
        let (public, home): (Url, Url) = (public.parse().unwrap(), home.parse().unwrap());
        let none = ReturnUrls::default();
        assert!(none.of_caller("https://app.example/").is_ok());
        assert!(none.of_browser("https://app.example/", &public).is_err());
        assert!(none.of_browser("http://localhost:3000/", &public).is_err());
        assert!(none.of_browser("http://localhost:3000/", &home).is_ok());
        let some = allowed(&["https://app.example"]);
        assert!(some.of_browser("https://app.example/x", &public).is_ok());
        assert!(some.of_browser("http://localhost:3000/", &home).is_err());
    }
}
