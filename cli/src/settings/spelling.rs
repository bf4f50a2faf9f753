//! Names that look like settings and are none. A misspelt setting would be as if it were not set.

use service::config::{Kind, Origin, Settings, Source, nearest};

use super::KNOWN;

/// The settings for GHL.
const GHL: &[&str] = &[
    "GHL_ACCESS_TOKEN",
    "GHL_API_URL",
    "GHL_AUTHORIZE_URL",
    "GHL_CLIENT_ID",
    "GHL_CLIENT_SECRET",
    "GHL_LOCATION_ID",
    "GHL_LOGIN_WINDOW",
    "GHL_REDIRECT_URI",
    "GHL_SCOPES",
    "GHL_SSO_KEY",
    "GHL_WEBHOOK_ED25519_KEY",
    "GHL_WEBHOOK_RSA_KEY",
];

/// Variables `EVERGREEN_…` that are for others: clients of evergreen, its image, its deployment files and its tests.
/// Without the prefix, since they are no settings.
const OF_OTHERS: &[&str] = &[
    "BIN",
    "COMMIT",
    "CREATED",
    "FEATURES",
    "HOST",
    "KEY",
    "LONG",
    "PATIENCE",
    "PREVIOUS_BIN",
    "PREVIOUS_USERS",
    "PUBLISH",
    "SEED",
    "SOURCE",
    "UPSTREAM",
    "URL",
    "VERSION",
];

/// A name that is no setting.
#[derive(Debug, PartialEq, Eq)]
struct Unknown {
    key: String,
    /// Completes "KEY …".
    message: String,
    /// Whether the name can only be meant for evergreen.
    is_mistake: bool,
}

/// Reports misspelt names as mistakes. To be called when all other settings were read.
pub(crate) fn refuse_unknown(settings: &mut Settings<'_>) {
    let mistakes = unknown(settings.source())
        .into_iter()
        .filter(|it| it.is_mistake);
    for Unknown { key, message, .. } in mistakes {
        settings.mistake(&key, message);
    }
    let reads = settings.reads();
    let is_plain =
        |name: &str| (reads.iter()).any(|read| read.key == name && read.kind == Kind::Plain);
    for key in settings.source().keys() {
        let setting = key.strip_suffix("_FILE").filter(|name| is_known(name));
        if let Some(setting) = setting.filter(|name| is_plain(name) && !is_setting(&key)) {
            let message = format!("is not read, since {setting} is no secret: set {setting}");
            settings.mistake(&key, message);
        }
    }
}

/// Names that may be misspelt settings, or variables of another program: one line for each.
pub(crate) fn suspicious(source: &dyn Source) -> Vec<String> {
    let all = unknown(source).into_iter().filter(|it| !it.is_mistake);
    all.map(|Unknown { key, message, .. }| format!("{key} {message}"))
        .collect()
}

/// All names that are no settings, for a command that does not depend on them: one line for each.
pub(crate) fn all_unknown(source: &dyn Source) -> Vec<String> {
    let all = unknown(source).into_iter();
    all.map(|Unknown { key, message, .. }| format!("{key} {message}"))
        .collect()
}

fn unknown(source: &dyn Source) -> Vec<Unknown> {
    let mut keys = source.keys();
    keys.sort_unstable();
    let found = keys.into_iter().filter_map(|key| {
        let value = source.get(&key).filter(|it| !it.trim().is_empty())?;
        let origin = source.origin(&key).unwrap_or(Origin::Environment);
        judge(&key, &value, &origin)
    });
    found.collect()
}

/// `None` if the name is a setting, or clearly somebody else's.
fn judge(key: &str, value: &str, origin: &Origin) -> Option<Unknown> {
    // Sections are checked by those who read them.
    if is_known(key) || key.contains('.') {
        return None;
    }
    let is_in_file = matches!(origin, Origin::File(_) | Origin::AppFile(_));
    let is_ours = key.starts_with("EVERGREEN_");
    let is_of_ghl = key.starts_with("GHL_");
    let is_for_others = !is_in_file && (is_of_others(key) || is_injected(key, value));
    let is_wrong_in_file = is_in_file && key != "PORT" && !key.starts_with("OTEL_");
    if is_for_others || !(is_ours || is_of_ghl || is_wrong_in_file) {
        return None;
    }
    if is_in_file && key.to_ascii_uppercase().ends_with("_PROXY") {
        return Some(Unknown {
            key: key.to_owned(),
            message: "is read from the environment alone: set it there".to_owned(),
            is_mistake: true,
        });
    }
    let meant = nearest(key, KNOWN.iter().chain(GHL).copied());
    let message = match meant {
        Some(meant) => format!("is no setting: did you mean {meant}?"),
        None if key == "EVERGREEN_PORT" => {
            "is no setting: did you mean PORT, or EVERGREEN_LISTEN with an address?".to_owned()
        }
        None => "is no setting: docs/settings.md lists them all".to_owned(),
    };
    Some(Unknown {
        key: key.to_owned(),
        message,
        // The environment may be shared with a backend that has variables of its own for GHL.
        is_mistake: is_ours || is_in_file || meant.is_some(),
    })
}

fn is_setting(key: &str) -> bool {
    KNOWN.contains(&key) || GHL.contains(&key)
}

/// A setting, or the file of one.
fn is_known(key: &str) -> bool {
    is_setting(key) || key.strip_suffix("_FILE").is_some_and(is_setting)
}

fn is_of_others(key: &str) -> bool {
    let name = key.strip_prefix("EVERGREEN_");
    name.is_some_and(|name| OF_OTHERS.contains(&name) || name.starts_with("LB_"))
}

/// Whether Kubernetes made the variable, for a Service whose name begins with `evergreen`, as it does for each Service of
/// a namespace: `EVERGREEN_GATEWAY_SERVICE_HOST`, `EVERGREEN_PORT`, `EVERGREEN_PORT_8080_TCP_ADDR`.
fn is_injected(key: &str, value: &str) -> bool {
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_port_variable = |rest: &str| {
        let mut words = rest.split('_');
        let is_begin = words.next().is_some_and(is_port)
            && words
                .next()
                .is_some_and(|word| ["TCP", "UDP", "SCTP"].contains(&word));
        let last = words.next();
        is_begin
            && last.is_none_or(|word| ["PROTO", "PORT", "ADDR"].contains(&word))
            && words.next().is_none()
    };
    let is_service = key.ends_with("_SERVICE_HOST")
        || key.ends_with("_SERVICE_PORT")
        || (key.contains("_SERVICE_PORT_") && is_port(value.trim()));
    let is_link = key.ends_with("_PORT") && value.contains("://");
    let after_port = key
        .match_indices("_PORT_")
        .map(|(at, found)| &key[at + found.len()..]);
    is_service || is_link || after_port.into_iter().any(is_port_variable)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::PathBuf;

    use super::*;

    fn mistakes(entries: &[(&str, &str)]) -> Vec<String> {
        let entries = entries.iter();
        let source: HashMap<String, String> = entries
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let mut settings = Settings::new(&source);
        settings.text("EVERGREEN_LISTEN");
        let _ = settings.secret("EVERGREEN_REDIS_URL");
        refuse_unknown(&mut settings);
        match settings.finish(()) {
            Ok(()) => Vec::new(),
            Err(mistakes) => mistakes.to_string().lines().map(str::to_owned).collect(),
        }
    }

    #[test]
    fn misspelt_names_are_mistakes_with_a_suggestion() {
        let found = mistakes(&[
            ("EVERGREEN_COLOUR", "red"),
            ("EVERGREEN_LISTEN_FILE", "/x"),
            ("EVERGREEN_REFERSH_LEAD", "5m"),
            ("EVERGREEN_PORT", "8080"),
            ("GHL_CLIENT_SCERET", "x"),
            ("GHL_COMPANY", "x"),
            ("EVERGREEN_EMPTY", " "),
            ("EVERGREEN_REDIS_URL_FILE", "/dev/null"),
            ("PATH", "/bin"),
        ]);
        let starts = [
            "EVERGREEN_REDIS_URL is missing",
            "EVERGREEN_COLOUR is no setting: docs/settings.md",
            "EVERGREEN_PORT is no setting: did you mean PORT",
            "EVERGREEN_REFERSH_LEAD is no setting: did you mean EVERGREEN_REFRESH_LEAD?",
            "GHL_CLIENT_SCERET is no setting: did you mean GHL_CLIENT_SECRET?",
            "EVERGREEN_LISTEN_FILE is not read, since EVERGREEN_LISTEN is no secret",
        ];
        assert_eq!(found.len(), starts.len(), "{found:#?}");
        for (line, start) in found.iter().zip(starts) {
            assert!(line.starts_with(start), "{line}");
        }
        let foreign = HashMap::from([("GHL_COMPANY".to_owned(), "x".to_owned())]);
        assert_eq!(suspicious(&foreign).len(), 1);
    }

    #[test]
    fn variables_of_kubernetes_and_of_others_are_ignored() {
        for (key, value) in [
            ("EVERGREEN_PORT", "tcp://10.96.0.7:8080"),
            ("EVERGREEN_PORT_8080_TCP", "tcp://10.96.0.7:8080"),
            ("EVERGREEN_PORT_8080_TCP_ADDR", "10.96.0.7"),
            ("EVERGREEN_PORT_8080_TCP_PORT", "8080"),
            ("EVERGREEN_PORT_8080_TCP_PROTO", "tcp"),
            ("EVERGREEN_SERVICE_HOST", "10.96.0.7"),
            ("EVERGREEN_SERVICE_PORT", "8080"),
            ("EVERGREEN_SERVICE_PORT_HTTP", "8080"),
            ("EVERGREEN_GATEWAY_SERVICE_HOST", "10.96.0.7"),
            ("EVERGREEN_GATEWAY_PORT_8080_TCP", "tcp://10.96.0.7:8080"),
            ("GHL_BROKER_SERVICE_PORT", "80"),
            ("EVERGREEN_BIN", "target/debug/evergreen"),
            ("EVERGREEN_LB_BIND", "127.0.0.1:1"),
            ("EVERGREEN_URL", "http://127.0.0.1:8080"),
        ] {
            assert_eq!(judge(key, value, &Origin::Environment), None, "{key}");
            let file = Origin::File(PathBuf::from("evergreen.toml"));
            assert!(judge(key, value, &file).is_some(), "{key} in a file");
        }
        for (key, value) in [
            ("EVERGREEN_PORT", "8080"),
            ("EVERGREEN_PORT_X_TCP", "tcp://10.96.0.7:8080"),
            ("EVERGREEN_PORT_8080_TCP_ADDR_X", "1"),
            ("EVERGREEN_SERVICE_PORT_HTTP", "http"),
        ] {
            assert!(judge(key, value, &Origin::Environment).is_some(), "{key}");
        }
    }

    #[test]
    fn settings_file_has_only_settings() {
        let judge = |key| judge(key, "x", &Origin::File("evergreen.toml".into()));
        for key in ["PORT", "OTEL_SERVICE_NAME", "GHL_SCOPES", "apps.a.scopes"] {
            assert_eq!(judge(key), None, "{key}");
        }
        for key in ["OTHER", "GHL_COMPANY", "HTTPS_PROXY"] {
            assert!(judge(key).is_some_and(|it| it.is_mistake), "{key}");
        }
    }
}
