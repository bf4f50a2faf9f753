//! The values of settings: `service::config`.
//!
//! Input: a value, which is read as every kind of setting.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use service::client_address::TrustedProxies;
use service::config::{Settings, Size, is_loopback};

use crate::input::{self, assert_showable};

/// A password in the corpus.
const MARK: &str = "hunter2secret";

/// Added to any time, it must not overflow.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);

/// Values are within bounds, mistakes are one printable line each, and secrets are not quoted.
pub fn check(bytes: &[u8]) {
    let text = input::text(bytes);
    let value = text.trim();
    let names = [
        "DURATION", "SIZE", "URL", "PEER", "NUMBER", "FLAG", "LISTEN", "PROXIES", "SECRET",
    ];
    let source: HashMap<String, String> = names
        .iter()
        .map(|name| ((*name).to_owned(), text.clone().into_owned()))
        .collect();

    let mut settings = Settings::new(&source);
    let duration = settings.duration("DURATION", Duration::from_secs(7));
    assert!(duration <= LONGEST, "{duration:?}");
    let size = settings.parse("SIZE", Size::of_bytes(7), "a size");
    let url = settings.url("URL", "http://127.0.0.1:1");
    assert!(url.username().is_empty() && url.password().is_none());
    assert!(matches!(url.scheme(), "http" | "https") && url.has_host());
    let peer = settings.url_for_secrets("PEER", "http://127.0.0.1:1");
    let is_number = settings
        .parse_optional::<u64>("NUMBER", "a number")
        .is_some();
    let _ = settings.parse_optional::<bool>("FLAG", "true or false");
    let _ = settings.parse_optional::<SocketAddr>("LISTEN", "an address");
    let _ = settings.parse_optional::<TrustedProxies>("PROXIES", "networks");
    let secret = settings.secret("SECRET");
    assert!(secret.is_none() || !value.is_empty());

    let mistakes = settings
        .finish(())
        .err()
        .map(|mistakes| mistakes.to_string());
    let lines: Vec<&str> = mistakes.iter().flat_map(|text| text.split('\n')).collect();
    let about = |name: &str| lines.iter().find(|line| line.starts_with(name));
    for line in &lines {
        assert!(!line.contains(char::is_control), "{line:?}");
        let name = line.split(' ').next().unwrap_or_default();
        assert!(names.contains(&name), "{line:?}");
    }
    if peer.scheme() == "http" && !is_loopback(&peer) {
        assert!(about("PEER").is_some(), "{peer} is cleartext");
    }
    assert!(!is_number || about("NUMBER").is_none());
    match about("SECRET") {
        // A quoted one, or a word of a manual.
        Some(line) => assert!(!line.contains(MARK), "{line}"),
        None => assert_eq!(secret.is_some(), !value.is_empty()),
    }
    if let Some(line) = about("URL")
        && let Some((_, rest)) = value.split_once("://")
        && let Some((login, _)) = rest.split_once('@')
        && login.contains(MARK)
    {
        assert!(!line.contains(MARK), "{line}");
    }
    if let Ok(shown) = value.parse::<Size>() {
        assert_eq!(shown, size);
        let again = shown.to_string();
        assert!(!again.ends_with("MB") || again.parse().ok() == Some(shown));
    }
    path_of_a_secret(value);
}

/// A secret that was pasted into the variable of a file's name is not quoted.
fn path_of_a_secret(value: &str) {
    // The name of no file, whatever the value is.
    let path = format!("/nowhere/{value}");
    let source = HashMap::from([("SECRET_FILE".to_owned(), path)]);
    let mut settings = Settings::new(&source);
    assert!(settings.secret("SECRET").is_none());
    let mistakes = settings.finish(()).expect_err("no such file").to_string();
    let reason = mistakes
        .strip_prefix("SECRET is missing: the file that SECRET_FILE names cannot be read: ");
    let reason = reason.unwrap_or_else(|| panic!("{mistakes}"));
    assert_showable(reason, 80);
    assert!(!reason.contains("/nowhere"), "{reason}");
    assert!(!value.contains(MARK) || !reason.contains(MARK), "{reason}");
}
