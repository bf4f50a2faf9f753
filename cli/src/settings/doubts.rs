//! Settings that may be wrong, and may be meant: a process says so and starts.

use broker::APP_SECTIONS;
use service::config::{Settings, Source, is_loopback};
use url::Url;

use super::spelling;

/// One line for each.
pub(crate) fn doubts(source: &dyn Source) -> Vec<String> {
    let mut doubts = spelling::suspicious(source);
    let text = |key: &str| source.get(key).map(|it| it.trim().to_owned());
    let api = text("GHL_API_URL").map_or_else(
        || Url::parse(ghl::api::DEFAULT_BASE_URL).ok(),
        |url| Url::parse(&url).ok(),
    );
    if !api.as_ref().is_some_and(ghl::api::is_ghl) {
        return doubts;
    }
    let sections = Settings::new(source).sections(APP_SECTIONS).into_iter();
    let keys = sections.map(|app| format!("{APP_SECTIONS}.{app}.client_id"));
    let keys: Vec<String> = keys.chain(["GHL_CLIENT_ID".to_owned()]).collect();
    for key in &keys {
        if text(key).is_some_and(|id| !is_client_id(&id)) {
            doubts.push(format!(
                "{key} does not look like a client id of GHL, which is 24 hexadecimal digits, a hyphen and a suffix: \
                 copy it from the app's page in GHL's marketplace"
            ));
        }
    }
    let has_app = keys.iter().any(|key| text(key).is_some());
    let redirect = text("GHL_REDIRECT_URI").and_then(|uri| Url::parse(&uri).ok());
    if has_app && redirect.as_ref().is_none_or(is_loopback) {
        doubts.push(
            "GHL_REDIRECT_URI leads to this machine alone: only a browser on this machine can finish a consent. Set it \
             to the public URL, such as https://tokens.example.com/oauth/callback"
                .to_owned(),
        );
    }
    doubts
}

/// Whether a text has the form of GHL's client ids: the app's id, a hyphen and a suffix.
fn is_client_id(text: &str) -> bool {
    let Some((app, suffix)) = text.split_once('-') else {
        return false;
    };
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    app.len() == 24
        && is_hex(app)
        && !suffix.is_empty()
        && suffix.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn found(entries: &[(&str, &str)]) -> Vec<String> {
        let entries = entries.iter();
        let source: HashMap<String, String> = entries
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        doubts(&source)
    }

    #[test]
    fn client_ids_of_ghl_have_a_form() {
        for id in [
            "65f0c1d2e3a4b5c6d7e8f901-abcd",
            "65F0C1D2E3A4B5C6D7E8F901-lx2ab",
        ] {
            assert!(is_client_id(id), "{id}");
        }
        for id in [
            "",
            "aaa-1",
            "65f0c1d2e3a4b5c6d7e8f901",
            "65f0c1d2e3a4b5c6d7e8f901-",
            "65f0c1d2e3a4b5c6d7e8f90g-abcd",
            "65f0c1d2e3a4b5c6d7e8f901-a b",
        ] {
            assert!(!is_client_id(id), "{id}");
        }
    }

    #[test]
    fn doubts_are_of_the_real_ghl_alone() {
        let id = ("GHL_CLIENT_ID", "app-1");
        let public = (
            "GHL_REDIRECT_URI",
            "https://tokens.example.com/oauth/callback",
        );
        assert_eq!(found(&[id]).len(), 2);
        assert_eq!(found(&[id, public]).len(), 1);
        assert_eq!(found(&[("apps.b.client_id", "b"), public]).len(), 1);
        let sandbox = ("GHL_API_URL", "http://127.0.0.1:8090");
        assert!(found(&[id, sandbox]).is_empty());
        assert!(found(&[]).is_empty(), "a gateway has no app");
        assert_eq!(found(&[("GHL_COMPANY", "x")]).len(), 1);
    }
}
