//! The page on which a customer lets the app in.

use std::str::FromStr;

use url::Url;

/// GHL's consent page; white-label agencies use another host, older texts another path.
pub const DEFAULT_URL: &str = "https://marketplace.gohighlevel.com/v2/oauth/chooselocation";

/// Where GHL shows the login: its own window, unless told to use the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LoginWindow {
    #[default]
    New,
    Same,
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

/// The app as the consent page knows it.
#[derive(Debug, Clone)]
pub struct Consent {
    pub url: Url,
    pub client_id: String,
    pub redirect_uri: Url,
    /// Space separated.
    pub scopes: String,
    pub login_window: LoginWindow,
}

impl Consent {
    /// The link that starts an installation; GHL hands `state` back to the callback.
    #[must_use]
    pub fn link(&self, state: &str) -> Url {
        let mut link = self.url.clone();
        let mut query = link.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("redirect_uri", self.redirect_uri.as_str())
            .append_pair("client_id", &self.client_id)
            .append_pair("scope", &self.scopes)
            .append_pair("state", state);
        match self.login_window {
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
    fn the_link_carries_everything_and_keeps_the_urls_own_query() {
        let consent = Consent {
            url: Url::parse("https://white.label/v2/oauth/chooselocation?version=1").unwrap(),
            client_id: "id".to_owned(),
            redirect_uri: Url::parse("https://us.example/oauth/callback").unwrap(),
            scopes: "a.read b.write".to_owned(),
            login_window: LoginWindow::Same,
        };
        assert_eq!(
            consent.link("nonce").as_str(),
            "https://white.label/v2/oauth/chooselocation?version=1&response_type=code\
             &redirect_uri=https%3A%2F%2Fus.example%2Foauth%2Fcallback&client_id=id\
             &scope=a.read+b.write&state=nonce&loginWindowOpenMode=self"
        );
    }
}
