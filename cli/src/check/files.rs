//! Files that settings name: who may read secrets, and when certificates expire.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use service::config::{Kind, Read};
use service::tls::first_expiry;

use super::clock::now;
use super::finding::Finding;

/// The settings that name a certificate of ours.
const CERTIFICATES: [&str; 3] = [
    "EVERGREEN_TLS_CERT",
    "EVERGREEN_CLIENT_CERT",
    "EVERGREEN_REDIS_CERT",
];

/// The settings that name a private key.
const KEYS: [&str; 3] = [
    "EVERGREEN_TLS_KEY",
    "EVERGREEN_CLIENT_KEY",
    "EVERGREEN_REDIS_KEY",
];

/// Container platforms mount secrets there, readable by all users of the container.
const MOUNTS: [&str; 2] = ["/run/secrets/", "/var/run/secrets/"];

/// The time before an expiry in which somebody should look.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

pub(super) fn check(reads: &[Read]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut closed = 0;
    for read in reads {
        let Some(path) = &read.value else { continue };
        let is_secret = read.kind == Kind::SecretFile || KEYS.contains(&read.key.as_str());
        if is_secret && !MOUNTS.iter().any(|mount| path.starts_with(mount)) {
            match is_open(path) {
                Some(true) => findings.push(Finding::warning(
                    "secret files",
                    format!("every user of this machine can read {path} ({})", read.key),
                    format!("chmod o= {path}"),
                )),
                Some(false) => closed += 1,
                None => {}
            }
        }
        if CERTIFICATES.contains(&read.key.as_str()) {
            let expiry = fs::read(path).ok().and_then(|pem| first_expiry(&pem));
            findings.extend(expiry.map(|date| certificate(&read.key, date, now())));
        }
    }
    if closed > 0 && !findings.iter().any(|it| it.name == "secret files") {
        let text = format!("{closed} are closed to other users");
        findings.insert(0, Finding::ok("secret files", text));
    }
    findings
}

/// Whether other users may read a file. `None` if it cannot be looked at.
fn is_open(path: &str) -> Option<bool> {
    let mode = fs::metadata(path).ok()?.permissions().mode();
    Some(mode & 0o007 != 0)
}

fn certificate(setting: &str, expires: SystemTime, now: SystemTime) -> Finding {
    let date = humantime::format_rfc3339_seconds(expires);
    let text = format!("that of {setting} is valid until {date}");
    match expires.duration_since(now) {
        Ok(left) if left > SOON => Finding::ok("certificate", text),
        Ok(_) => Finding::warning(
            "certificate",
            text,
            "renew it, or see why that did not happen",
        ),
        Err(_) => Finding::problem(
            "certificate",
            format!("that of {setting} has expired at {date}"),
            "renew it: every client refuses it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn certificates_are_judged_by_their_remaining_time() {
        let now = now();
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        for (expires, expected) in [
            (now + days(15), State::Ok),
            (now + days(13), State::Warning),
            (now - days(1), State::Problem),
        ] {
            assert_eq!(certificate("X", expires, now).state, expected);
        }
    }

    #[test]
    fn secret_file_that_everybody_can_read_is_a_warning() {
        let name = format!("evergreen-{}-check-secret", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, "x").unwrap();
        for (mode, expected) in [(0o644, State::Warning), (0o640, State::Ok)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let read = Read {
                key: "GHL_CLIENT_SECRET_FILE".to_owned(),
                kind: Kind::SecretFile,
                value: Some(path.display().to_string()),
                origin: None,
                default: None,
            };
            let found = check(&[read]);
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].state, expected, "{}", found[0]);
        }
        fs::remove_file(path).unwrap();
    }
}
