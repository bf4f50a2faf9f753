//! The settings of apps.
//!
//! The app `default` comes from `GHL_CLIENT_ID` and its neighbours. More come from sections `[apps.NAME]` of the settings
//! file, or from the files of `EVERGREEN_APPS_DIR`. They share everything that they do not set themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use ghl::consent::{self, Consent, LoginWindow};
use ghl::token_endpoint;
use ghl::webhook::{ED25519_KEY, RSA_KEY, Verifier};
use secrecy::{ExposeSecret, SecretString};
use service::config::{Origin, Settings};
use service::tls::Authorities;
use store::{AppName, ClientId, KeyHash};
use url::Url;

use super::redirect::{self, Peers};
use crate::api::html::Brand;

/// The OAuth scopes that an app requests by default, separated by spaces. The gateway's own routes need them.
pub const DEFAULT_SCOPES: &str = "products.readonly products.write contacts.readonly contacts.write \
                              medias.readonly medias.write locations.readonly oauth.readonly oauth.write";
const DEFAULT_REDIRECT_URI: &str = "http://127.0.0.1:8080/oauth/callback";
/// The kind of the sections of apps.
pub const SECTIONS: &str = "apps";
const FIELDS: [&str; 14] = [
    "authorize_url",
    "client_id",
    "client_secret",
    "client_secret_file",
    "client_secrets",
    "client_secrets_file",
    "login_window",
    "logo_url",
    "redirect_uri",
    "scopes",
    "sso_key",
    "sso_key_file",
    "title",
    "webhook_keys",
];

/// An app at GHL.
#[derive(Debug, Clone)]
pub struct AppConfig {
    /// The name that the operator chose.
    pub name: AppName,
    /// The client id of [`AppConfig::endpoint`].
    pub client: ClientId,
    /// GHL's token endpoint and the client credentials.
    pub endpoint: token_endpoint::Config,
    /// GHL's consent page and the scopes to request.
    pub consent: Consent,
    /// Checks the signatures of webhooks.
    pub verifier: Verifier,
    /// The name and the logo on customers' pages.
    pub brand: Brand,
    /// The shared secrets that GHL encrypts the user contexts of its pages with. Several while the secret is changed.
    pub sso_keys: Vec<SecretString>,
}

impl AppConfig {
    /// Of all settings.
    pub(super) fn fingerprint(&self) -> String {
        let credentials = self.endpoint.credentials_fingerprint();
        let sso_keys = self.sso_keys.iter();
        let sso_keys = sso_keys.map(|key| KeyHash::of(key.expose_secret()).to_string());
        let sso_keys = sso_keys.collect::<Vec<_>>().join(",");
        format!(
            "{credentials} {:?} {:?} {:?} {sso_keys}",
            self.consent, self.verifier, self.brand
        )
    }
}

/// Reads all apps. Mistakes are collected in `settings`. `timeout`: of a call of the token endpoint.
pub(crate) fn read(
    settings: &mut Settings<'_>,
    api_url: &Url,
    timeout: Duration,
) -> Vec<AppConfig> {
    let allows_cleartext = settings.parse("EVERGREEN_ALLOW_CLEARTEXT", false, "true or false");
    let shared = Shared {
        peers: Peers {
            is_ghl: ghl::api::is_ghl(api_url),
            allows_cleartext,
        },
        token_url: join(api_url, "oauth/token"),
        timeout,
        authorities: Authorities::read(settings)
            .der()
            .map(<[u8]>::to_vec)
            .collect(),
        redirect_uri: settings.url("GHL_REDIRECT_URI", DEFAULT_REDIRECT_URI),
        authorize_url: settings.url("GHL_AUTHORIZE_URL", consent::DEFAULT_URL),
        scopes: read_scopes(settings),
        login_window: settings.parse("GHL_LOGIN_WINDOW", LoginWindow::default(), "new or self"),
        verifier: read_verifier(settings),
        brand: Brand {
            title: settings.text("EVERGREEN_APP_TITLE"),
            logo: settings.url_optional("EVERGREEN_APP_LOGO_URL"),
        },
    };
    let sections = settings.sections(SECTIONS);
    let mut apps: Vec<AppConfig> = Vec::new();
    let has_default = settings.text("GHL_CLIENT_ID").is_some();
    // The one that `up` makes for its sandbox leads to the address at which it listens.
    if let Some(uri) = settings.url_optional("GHL_REDIRECT_URI")
        && settings.origin("GHL_REDIRECT_URI") != Some(Origin::Program)
    {
        let problem = match has_default {
            true => redirect::problem(&uri, &AppName::default(), shared.peers),
            // Other apps take its host alone.
            false => redirect::cleartext_problem(&uri, shared.peers),
        };
        if let Some(problem) = problem {
            settings.mistake("GHL_REDIRECT_URI", problem);
        }
    }
    if has_default || sections.is_empty() {
        apps.extend(read_default(settings, &shared));
    }
    for section in &sections {
        apps.extend(read_section(settings, &shared, section));
    }
    refuse_repetitions(settings, &apps);
    apps
}

/// The names of the apps in the settings. One that is no name is left out: [`read`] reports it.
pub(crate) fn names(settings: &mut Settings<'_>) -> Vec<AppName> {
    let sections = settings.sections(SECTIONS);
    let has_default = sections.is_empty() || settings.text("GHL_CLIENT_ID").is_some();
    let names = sections.iter().filter_map(|name| name.parse().ok());
    names.chain(has_default.then(AppName::default)).collect()
}

/// The settings that apps share unless they set them.
struct Shared {
    token_url: Url,
    timeout: Duration,
    peers: Peers,
    authorities: Vec<Vec<u8>>,
    redirect_uri: Url,
    authorize_url: Url,
    scopes: String,
    login_window: LoginWindow,
    verifier: Verifier,
    brand: Brand,
}

fn read_default(settings: &mut Settings<'_>, shared: &Shared) -> Option<AppConfig> {
    const HELP: &str = "the client id of your app in GHL's marketplace";
    settings.required("GHL_CLIENT_ID", HELP);
    settings.refuse_placeholder("GHL_CLIENT_ID");
    let client = settings.parse_optional("GHL_CLIENT_ID", "a client id of GHL");
    let secrets = split_secrets(settings.secret("GHL_CLIENT_SECRET"));
    if secrets.is_empty() {
        settings.mistake(
            "GHL_CLIENT_SECRET",
            "is missing: the client secret of your app, or GHL_CLIENT_SECRET_FILE with its path; \
             list several, separated by commas, while you rotate it",
        );
    }
    let sso_keys = split_secrets(settings.secret("GHL_SSO_KEY"));
    let app = shared.app(AppName::default(), client?, secrets);
    Some(AppConfig { sso_keys, ..app })
}

/// The app of a section `apps.NAME`.
fn read_section(settings: &mut Settings<'_>, shared: &Shared, section: &str) -> Option<AppConfig> {
    let prefix = format!("{SECTIONS}.{section}");
    settings.check_section(&prefix, &FIELDS);
    let key = |field: &str| format!("{prefix}.{field}");
    let name = match section.parse::<AppName>() {
        Ok(name) if name.is_default() => {
            settings.mistake(&prefix, "is the app of GHL_CLIENT_ID: choose another name");
            None
        }
        Ok(name) => Some(name),
        Err(error) => {
            settings.mistake(&prefix, format!("is no name of an app: {error}"));
            None
        }
    };
    settings.required(
        &key("client_id"),
        "the client id of the app in GHL's marketplace",
    );
    settings.refuse_placeholder(&key("client_id"));
    let client = settings.parse_optional(&key("client_id"), "a client id of GHL");
    let both = ["client_secret", "client_secrets"].map(|field| settings.secret(&key(field)));
    let secrets: Vec<SecretString> = both.into_iter().flat_map(split_secrets).collect();
    if secrets.is_empty() {
        settings.mistake(
            &key("client_secrets"),
            "is missing: the client secret of the app, or client_secrets_file with the path of a file; \
             list several while you rotate it",
        );
    }
    let sso_keys = split_secrets(settings.secret(&key("sso_key")));
    let consent_url = settings.url_optional(&key("authorize_url"));
    let redirect_uri = settings.url_optional(&key("redirect_uri"));
    if let (Some(uri), Some(name)) = (&redirect_uri, &name)
        && let Some(problem) = redirect::problem(uri, name, shared.peers)
    {
        settings.mistake(&key("redirect_uri"), problem);
    }
    refuse_commas(settings, &key("scopes"));
    let scopes = settings.text(&key("scopes"));
    let scopes = scopes.map(|scopes| scopes.split_whitespace().collect::<Vec<_>>().join(" "));
    let login_window = settings.parse(&key("login_window"), shared.login_window, "new or self");
    let keys = settings.text(&key("webhook_keys"));
    let verifier = keys.and_then(|pem| {
        let verifier = Verifier::new(&pem, None);
        let mistake = |error| settings.mistake(&key("webhook_keys"), format!("is {error}"));
        verifier.map_err(mistake).ok()
    });
    let title = settings.text(&key("title"));
    let logo = settings.url_optional(&key("logo_url"));
    let (name, client) = (name?, client?);
    let default_redirect = shared.redirect_of(&name);
    let mut app = shared.app(name, client, secrets);
    let redirect_uri = redirect_uri.unwrap_or(default_redirect);
    app.endpoint.redirect_uri = redirect_uri.clone();
    app.consent.redirect_uri = redirect_uri;
    app.consent.url = consent_url.unwrap_or(app.consent.url);
    app.consent.scopes = scopes.unwrap_or(app.consent.scopes);
    app.consent.login_window = login_window;
    app.verifier = verifier.unwrap_or(app.verifier);
    app.brand.title = title.or(app.brand.title);
    app.brand.logo = logo.or(app.brand.logo);
    app.sso_keys = sso_keys;
    Some(app)
}

/// The scopes of the default app, and of those that name none.
fn read_scopes(settings: &mut Settings<'_>) -> String {
    refuse_commas(settings, "GHL_SCOPES");
    settings.text_or("GHL_SCOPES", DEFAULT_SCOPES)
}

/// GHL would take the whole list for the name of one scope.
fn refuse_commas(settings: &mut Settings<'_>, key: &str) {
    if settings.text(key).is_some_and(|it| it.contains(',')) {
        settings.mistake(
            key,
            "has commas between the scopes: GHL wants spaces, such as `contacts.readonly contacts.write`",
        );
    }
}

impl Shared {
    fn app(&self, name: AppName, client: ClientId, secrets: Vec<SecretString>) -> AppConfig {
        AppConfig {
            endpoint: token_endpoint::Config {
                url: self.token_url.clone(),
                client_id: client.to_string(),
                client_secrets: secrets,
                redirect_uri: self.redirect_uri.clone(),
                timeout: self.timeout,
                authorities: self.authorities.clone(),
            },
            consent: Consent {
                url: self.authorize_url.clone(),
                client_id: client.to_string(),
                redirect_uri: self.redirect_uri.clone(),
                scopes: self.scopes.clone(),
                login_window: self.login_window,
            },
            verifier: self.verifier.clone(),
            brand: self.brand.clone(),
            // Each app at GHL has its own.
            sso_keys: Vec::new(),
            name,
            client,
        }
    }

    /// The callback that names the app, at the host of the default one. A consent that begins in GHL's marketplace has
    /// nothing else that names it.
    fn redirect_of(&self, name: &AppName) -> Url {
        let mut callback = self.redirect_uri.clone();
        callback.set_path(&format!("/oauth/callback/{name}"));
        callback
    }
}

/// Two apps with one client id would spend each other's refresh tokens.
fn refuse_repetitions(settings: &mut Settings<'_>, apps: &[AppConfig]) {
    let mut names: BTreeMap<&ClientId, &AppName> = BTreeMap::new();
    for app in apps {
        if let Some(earlier) = names.insert(&app.client, &app.name) {
            settings.mistake(
                &format!("{SECTIONS}.{}.client_id", app.name),
                format!("is also the client id of the app `{earlier}`"),
            );
        }
    }
}

/// Splits a list of client secrets, of which the first is used, and the next is tried if GHL refuses it, or of shared
/// secrets.
fn split_secrets(list: Option<SecretString>) -> Vec<SecretString> {
    let list = list.unwrap_or_default();
    let secrets = list.expose_secret().split([',', '\n']).map(str::trim);
    secrets
        .filter(|secret| !secret.is_empty())
        .map(SecretString::from)
        .collect()
}

fn join(base: &Url, path: &str) -> Url {
    let mut joined = base.clone();
    joined.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    joined
}

fn read_verifier(settings: &mut Settings<'_>) -> Verifier {
    let ed25519 = settings.text("GHL_WEBHOOK_ED25519_KEY");
    let rsa = settings.text("GHL_WEBHOOK_RSA_KEY");
    let rsa = rsa.as_deref().map(|text| match text {
        "published" => RSA_KEY,
        pem => pem,
    });
    let chosen = Verifier::new(ed25519.as_deref().unwrap_or(ED25519_KEY), rsa);
    chosen.unwrap_or_else(|error| {
        settings.mistake(
            "GHL_WEBHOOK_ED25519_KEY",
            format!("or GHL_WEBHOOK_RSA_KEY is {error}"),
        );
        Verifier::new(ED25519_KEY, None).expect("the built-in key is a key")
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn read_from(entries: &[(&str, &str)]) -> Result<Vec<AppConfig>, String> {
        let entries = entries
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()));
        let source: HashMap<String, String> = entries.collect();
        let mut settings = Settings::new(&source);
        let api = Url::parse("https://services.example").unwrap();
        let apps = read(&mut settings, &api, Duration::from_secs(10));
        settings
            .finish(apps)
            .map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn app_of_a_section_shares_what_it_does_not_set() {
        let apps = read_from(&[
            ("GHL_CLIENT_ID", "aaa-1"),
            ("GHL_CLIENT_SECRET", "s"),
            ("GHL_REDIRECT_URI", "https://us.example/oauth/callback"),
            ("GHL_SCOPES", "contacts.readonly"),
            ("apps.staging.client_id", "bbb-1"),
            ("apps.staging.client_secrets", "one\ntwo"),
            ("apps.own.client_id", "ccc-1"),
            ("apps.own.client_secret", "x"),
            ("apps.own.scopes", "a.readonly\nb.write"),
            (
                "apps.own.redirect_uri",
                "https://own.example/oauth/callback",
            ),
        ]);
        let apps = apps.unwrap();
        let names: Vec<&str> = apps.iter().map(|app| app.name.as_str()).collect();
        assert_eq!(names, ["default", "own", "staging"]);
        let staging = &apps[2];
        assert_eq!(staging.endpoint.client_secrets.len(), 2);
        assert_eq!(staging.consent.scopes, "contacts.readonly");
        let callback = "https://us.example/oauth/callback/staging";
        assert_eq!(staging.consent.redirect_uri.as_str(), callback);
        assert_eq!(apps[1].consent.scopes, "a.readonly b.write");
        assert_eq!(
            apps[1].endpoint.redirect_uri.host_str(),
            Some("own.example")
        );
    }

    #[test]
    fn each_app_has_its_own_shared_secrets_and_a_new_one_makes_a_difference() {
        let of = |default: &str, own: &str| {
            let apps = read_from(&[
                ("GHL_CLIENT_ID", "aaa-1"),
                ("GHL_CLIENT_SECRET", "s"),
                ("GHL_SSO_KEY", default),
                ("apps.none.client_id", "bbb-1"),
                ("apps.none.client_secret", "x"),
                ("apps.own.client_id", "ccc-1"),
                ("apps.own.client_secret", "x"),
                ("apps.own.sso_key", own),
            ]);
            apps.unwrap()
        };
        let apps = of("one, two", "three");
        let counts: Vec<usize> = apps.iter().map(|app| app.sso_keys.len()).collect();
        assert_eq!(counts, [2, 0, 1]);
        assert_eq!(apps[2].sso_keys[0].expose_secret(), "three");
        let changed = of("one, two", "four");
        assert_eq!(apps[0].fingerprint(), changed[0].fingerprint());
        assert_ne!(apps[2].fingerprint(), changed[2].fingerprint());
        assert!(!format!("{apps:?} {}", apps[2].fingerprint()).contains("three"));
    }

    #[test]
    fn all_mistakes_of_all_apps_are_reported_at_once() {
        let error = read_from(&[
            ("apps.Staging.client_id", "bbb-1"),
            ("apps.a.client_id", "aaa-1"),
            ("apps.a.client_secrets", "x"),
            ("apps.a.colour", "red"),
            ("apps.b.client_id", "aaa-1"),
            ("apps.b.client_secrets", "x"),
            ("apps.default.client_id", "ddd-1"),
            ("apps.default.client_secrets", "x"),
        ]);
        let error = error.unwrap_err();
        for mistake in [
            "apps.Staging is no name of an app",
            "apps.Staging.client_secrets is missing",
            "apps.a.colour is no setting",
            "apps.b.client_id is also the client id of the app `a`",
            "apps.default is the app of GHL_CLIENT_ID",
        ] {
            assert!(error.contains(mistake), "{mistake}: {error}");
        }
    }

    #[test]
    fn redirect_uris_scopes_and_copied_ids_are_checked() {
        let client = [("GHL_CLIENT_ID", "aaa-1"), ("GHL_CLIENT_SECRET", "s")];
        let section = [("apps.b.client_id", "b-1"), ("apps.b.client_secret", "s")];
        let mistakes = |entries: &[(&str, &str)]| {
            let all = [&client[..], &section[..], entries].concat();
            read_from(&all).err().unwrap_or_default()
        };
        for (key, value, expected) in [
            (
                "GHL_REDIRECT_URI",
                "http://us.example/oauth/callback",
                "is http://",
            ),
            (
                "GHL_REDIRECT_URI",
                "https://us.example/back",
                "does not serve",
            ),
            ("GHL_REDIRECT_URI", "https://us.example/oauth/callback", ""),
            (
                "apps.b.redirect_uri",
                "https://us.example/oauth/callback/c",
                "another app",
            ),
            (
                "apps.b.redirect_uri",
                "https://us.example/oauth/callback/b",
                "",
            ),
            ("GHL_SCOPES", "a.readonly,b.write", "GHL wants spaces"),
            ("GHL_SCOPES", "a.readonly b.write", ""),
            ("apps.b.scopes", "a.readonly,b.write", "GHL wants spaces"),
            ("apps.b.scopes", "a.readonly\nb.write", ""),
            ("apps.b.title", "More\u{2026}", ""),
        ] {
            let found = mistakes(&[(key, value)]);
            let is_expected = match expected {
                "" => found.is_empty(),
                expected => found.starts_with(key) && found.contains(expected),
            };
            assert!(is_expected, "{key}={value}: {found}");
        }
        let copied = [
            ("GHL_CLIENT_ID", "your-client-id"),
            ("GHL_CLIENT_SECRET", "changeme"),
        ];
        let found = read_from(&copied).unwrap_err();
        assert_eq!(
            found.matches("is still the placeholder").count(),
            2,
            "{found}"
        );
        assert!(!found.contains("changeme"), "{found}");
    }

    #[test]
    fn settings_without_an_app_say_that_the_default_one_is_missing() {
        let error = read_from(&[]).unwrap_err();
        assert!(error.contains("GHL_CLIENT_ID is not set"), "{error}");
    }
}
