//! The message of `evergreen up` when it serves.

use secrecy::{ExposeSecret, SecretString};
use service::config::is_loopback;
use url::Url;

use crate::settings::Common;

/// The facts of the process in the banner.
pub(super) struct Banner<'a> {
    pub(super) common: &'a Common,
    /// `http` or `https`: that of the listeners.
    pub(super) scheme: &'static str,
    /// Whether the sandbox of this process stands in for GHL.
    pub(super) is_sandboxed: bool,
    /// The base of GHL's API.
    pub(super) api_url: &'a Url,
    /// Where GHL sends browsers after a consent, to one of the apps.
    pub(super) redirect_uri: Option<&'a Url>,
    /// The key that the first start made.
    pub(super) first_key: Option<&'a SecretString>,
    /// The path of a link that signs in to the console once. `None` if none could be made.
    pub(super) sign_in: Option<SecretString>,
}

impl Banner<'_> {
    pub(super) fn text(&self) -> String {
        let Self {
            common, first_key, ..
        } = self;
        let internal = format!("{}://{}", self.scheme, common.internal_listen);
        let listen = format!("{}://{}", self.scheme, common.listen);
        let public = public_url(self.redirect_uri).unwrap_or_else(|| listen.clone());
        let ghl = ghl(self.is_sandboxed, self.api_url);
        let key = match first_key {
            Some(key) => format!(
                "\n  API key            {} (shown only now; `evergreen keys create` makes others)",
                key.expose_secret()
            ),
            None => String::new(),
        };
        let console = match &self.sign_in {
            Some(path) => format!(
                "{internal}{} (signs in once, within 15 minutes; `evergreen console` makes another link)",
                path.expose_secret()
            ),
            None => format!("{internal}/console (`evergreen console` makes a link to sign in)"),
        };
        let behind = match public == listen {
            true => String::new(),
            false => format!("\n  listens at         {listen}, behind {public}"),
        };
        let header = match self.is_sandboxed {
            true => "",
            false => " -H 'Authorization: Bearer evg_…'",
        };
        format!(
            "\nevergreen is up. {ghl}.\n{key}{behind}\n  \
             install the app    open {public}/oauth/install\n  \
             then call GHL      curl{header} '{public}/api/ghl/products?installation_id=install_…'\n  \
             see its token      curl{header} '{public}/api/oauth/status?installation_id=install_…'\n  \
             console            {console}\n  \
             operate            evergreen installations list · curl {internal}/metrics\n  \
             data               {}\n",
            common.data_dir.display()
        )
    }
}

/// The URL by which customers and callers reach the process: that of the redirect URI, if it is public.
fn public_url(redirect_uri: Option<&Url>) -> Option<String> {
    let uri = redirect_uri.filter(|uri| !is_loopback(uri))?;
    Some(uri.origin().ascii_serialization())
}

fn ghl(is_sandboxed: bool, api_url: &Url) -> String {
    if is_sandboxed {
        "The sandbox on this machine stands in for GHL (set GHL_CLIENT_ID to use the real one)"
            .to_owned()
    } else if ghl::api::is_ghl(api_url) {
        "It uses the real GHL".to_owned()
    } else {
        let origin = api_url.origin().ascii_serialization();
        format!("GHL_API_URL names {origin} in the place of GHL")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_url_is_the_origin_of_a_public_redirect_uri() {
        for (uri, expected) in [
            (
                "https://tokens.example.com/oauth/callback",
                Some("https://tokens.example.com"),
            ),
            (
                "https://tokens.example.com:8443/api/oauth/callback",
                Some("https://tokens.example.com:8443"),
            ),
            ("http://127.0.0.1:8080/oauth/callback", None),
        ] {
            let uri = Url::parse(uri).unwrap();
            assert_eq!(public_url(Some(&uri)).as_deref(), expected);
        }
        assert_eq!(public_url(None), None);
    }

    #[test]
    fn ghl_that_is_used_is_named() {
        let real = Url::parse(ghl::api::DEFAULT_BASE_URL).unwrap();
        let other = Url::parse("http://127.0.0.1:8090/base").unwrap();
        assert!(ghl(true, &other).contains("sandbox"));
        assert!(ghl(false, &real).contains("the real GHL"));
        assert!(ghl(false, &other).starts_with("GHL_API_URL names http://127.0.0.1:8090 "));
    }
}
