//! GHL's consent page, on which a customer installs the app.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// The URL of GHL's consent page. Older documents have another path.
pub const DEFAULT_URL: &str = "https://marketplace.gohighlevel.com/v2/oauth/chooselocation";
/// The host of GHL's consent page, with GHL's name on it.
const BRANDED_HOST: &str = "marketplace.gohighlevel.com";
/// The host for customers of agencies that show their own name.
const WHITE_LABEL_HOST: &str = "marketplace.leadconnectorhq.com";

/// The window in which GHL shows its login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LoginWindow {
    /// A window of its own. GHL's default.
    #[default]
    New,
    /// The same window (`loginWindowOpenMode=self`).
    Same,
}

impl fmt::Display for LoginWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Same => "self",
        })
    }
}

impl FromStr for LoginWindow {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "new" => Ok(Self::New),
            "self" => Ok(Self::Same),
            _ => Err("unknown"),
        }
    }
}

/// The parameters of the consent page.
#[derive(Debug, Clone)]
pub struct Consent {
    /// The URL of the page. Its query is kept.
    pub url: Url,
    /// The client id of the app.
    pub client_id: String,
    /// The callback, as registered for the app.
    pub redirect_uri: Url,
    /// The scopes, separated by spaces.
    pub scopes: String,
    /// The window for GHL's login.
    pub login_window: LoginWindow,
}

/// The options of one customer's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkOptions {
    /// Whether the page must not show GHL's name. A page of another host than GHL's stays as it is.
    pub is_white_label: bool,
    /// The window for GHL's login, instead of that of the app.
    pub login_window: Option<LoginWindow>,
}

impl Consent {
    /// The link that starts an installation. GHL passes `state` to the callback.
    #[must_use]
    pub fn link(&self, state: &str, options: LinkOptions) -> Url {
        let mut link = self.url.clone();
        if options.is_white_label && link.host_str() == Some(BRANDED_HOST) {
            // It is a host, so this does not fail.
            let _ = link.set_host(Some(WHITE_LABEL_HOST));
        }
        let mut query = link.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("redirect_uri", self.redirect_uri.as_str())
            .append_pair("client_id", &self.client_id)
            .append_pair("scope", &self.scopes)
            .append_pair("state", state);
        match options.login_window.unwrap_or(self.login_window) {
            LoginWindow::New => {}
            LoginWindow::Same => {
                query.append_pair("loginWindowOpenMode", "self");
            }
        }
        drop(query);
        link
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_has_all_parameters_and_keeps_the_query_of_the_url() {
        let consent = Consent {
            url: Url::parse("https://white.label/v2/oauth/chooselocation?version=1").unwrap(),
            client_id: "id".to_owned(),
            redirect_uri: Url::parse("https://us.example/oauth/callback").unwrap(),
            scopes: "a.read b.write".to_owned(),
            login_window: LoginWindow::Same,
        };
        assert_eq!(
            consent.link("nonce", LinkOptions::default()).as_str(),
            "https://white.label/v2/oauth/chooselocation?version=1&response_type=code\
             &redirect_uri=https%3A%2F%2Fus.example%2Foauth%2Fcallback&client_id=id\
             &scope=a.read+b.write&state=nonce&loginWindowOpenMode=self"
        );
    }
    #[test]
    fn white_label_changes_ghls_host_and_no_other() {
        let options = LinkOptions {
            is_white_label: true,
            login_window: Some(LoginWindow::Same),
        };
        for (url, host) in [
            (DEFAULT_URL, WHITE_LABEL_HOST),
            ("https://own.example/page", "own.example"),
        ] {
            let consent = Consent {
                url: Url::parse(url).unwrap(),
                client_id: "id".to_owned(),
                redirect_uri: Url::parse("https://us.example/oauth/callback").unwrap(),
                scopes: "a.read".to_owned(),
                login_window: LoginWindow::New,
            };
            let link = consent.link("nonce", options);
            assert_eq!(link.host_str(), Some(host));
            assert!(
                link.as_str().ends_with("&loginWindowOpenMode=self"),
                "{link}"
            );
        }
    }
}
