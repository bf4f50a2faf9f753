use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::ExposeSecret;

use super::*;

const LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

fn source(entries: &[(&str, &str)]) -> HashMap<String, String> {
    HashMap::from_iter(
        entries
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into())),
    )
}

/// Writes a temporary file with `content`. Returns its path.
fn file(name: &str, content: &str) -> String {
    let path: PathBuf =
        std::env::temp_dir().join(format!("evergreen-{}-{name}", std::process::id()));
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn unset_settings_have_defaults() {
    let source = source(&[("EMPTY", "")]);
    let mut settings = Settings::new(&source);
    assert_eq!(settings.text("EMPTY"), None);
    assert!(settings.secret("SECRET").is_none());
    assert_eq!(settings.parse("LISTEN", LISTEN, "an address"), LISTEN);
    assert_eq!(settings.parse_optional::<u16>("EMPTY", "a number"), None);
    assert_eq!(
        settings.duration("LEAD", Duration::from_millis(250)),
        Duration::from_millis(250)
    );
    assert_eq!(
        settings.url("URL", "http://127.0.0.1:8081").port(),
        Some(8081)
    );
    assert_eq!(settings.url_optional("URL"), None);
    assert_eq!(settings.finish(7).unwrap(), 7);
}

#[test]
fn every_mistake_is_reported_in_the_order_read() {
    let source = source(&[
        ("LISTEN", "8080"),
        ("LEAD", "300"),
        ("SCHEME", "redis://example.com"),
        ("CREDENTIALS", "https://user:hunter2@example.com"),
        ("BROKEN", "hunter2"),
        ("BOTH", "hunter2"),
        ("BOTH_FILE", "/run/secrets/both"),
        ("LOST_FILE", "/nowhere/hunter2"),
    ]);
    let mut settings = Settings::new(&source);
    settings.required("CLIENT", "copy it from the app's page");
    settings.parse("LISTEN", LISTEN, "an address such as 127.0.0.1:8080");
    settings.duration("LEAD", Duration::from_secs(300));
    settings.url("SCHEME", "http://default");
    settings.url("CREDENTIALS", "http://default");
    settings.url("BROKEN", "http://default");
    settings.secret("BOTH");
    settings.secret("LOST");
    settings.mistake("FLOOR", "is above LEAD");
    settings.required("CLIENT", "copy it from the app's page");

    let mistakes = settings.finish(()).unwrap_err().to_string();
    let starts = [
        "CLIENT is not set: copy it from the app's page",
        "LISTEN must be an address such as 127.0.0.1:8080, but is \"8080\": ",
        "LEAD must be a duration with its unit, such as 5m, 1h30m or 250ms, but is \"300\": ",
        "SCHEME must be an http or https URL without user and password: it has another scheme",
        "CREDENTIALS must be an http or https URL without user and password: it contains one",
        "BROKEN must be an http or https URL without user and password: ",
        "BOTH and BOTH_FILE are both set: keep one",
        "LOST is missing: the file that LOST_FILE names cannot be read: ",
        "FLOOR is above LEAD",
    ];
    let lines: Vec<_> = mistakes.lines().collect();
    assert_eq!(lines.len(), starts.len(), "{mistakes}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
    assert!(!mistakes.contains("hunter2"), "{mistakes}");
}

#[test]
fn secret_is_read_from_its_variable_or_trimmed_file() {
    let written = file("secret", "  hunter2\n");
    let empty = file("empty", "\n");
    let source = source(&[("A", "hunter1"), ("B_FILE", &written), ("C_FILE", &empty)]);
    let mut settings = Settings::new(&source);
    assert_eq!(settings.secret("A").unwrap().expose_secret(), "hunter1");
    assert_eq!(settings.secret("B").unwrap().expose_secret(), "hunter2");
    assert!(settings.secret("C").is_none());
    let mistakes = settings.finish(()).unwrap_err().to_string();
    assert_eq!(
        mistakes,
        "C is missing: the file that C_FILE names is empty"
    );
    fs::remove_file(written).unwrap();
    fs::remove_file(empty).unwrap();
}

#[test]
fn values_are_trimmed_and_byte_order_marks_removed() {
    let written = file("marked", "\u{feff}hunter2\r\n");
    let blank = file("blank", "\u{feff}\n");
    let source = source(&[
        ("TEXT", " a b\n"),
        ("NUMBER", "7\r\n"),
        ("URL", "\thttp://127.0.0.1:1 "),
        ("SECRET", " hunter1\n"),
        ("BLANK", " \n"),
        ("MARKED_FILE", &format!("{written}\n")),
        ("UNFILLED_FILE", &blank),
    ]);
    let mut settings = Settings::new(&source);
    assert_eq!(settings.text("TEXT").as_deref(), Some("a b"));
    assert_eq!(settings.parse("NUMBER", 0, "a number"), 7);
    assert_eq!(settings.url("URL", "http://default").port(), Some(1));
    assert_eq!(settings.text("BLANK"), None);
    let secret = settings.secret("SECRET").unwrap();
    assert_eq!(secret.expose_secret(), "hunter1");
    let secret = settings.secret("MARKED").unwrap();
    assert_eq!(secret.expose_secret(), "hunter2");
    assert!(settings.secret("UNFILLED").is_none());
    let mistakes = settings.finish(()).unwrap_err().to_string();
    assert!(mistakes.ends_with("is empty"), "{mistakes}");
    fs::remove_file(written).unwrap();
    fs::remove_file(blank).unwrap();
}

#[test]
fn durations_are_parsed_with_their_unit() {
    let source = source(&[("A", "1h30m"), ("B", "250ms"), ("C", "500000000years")]);
    let mut settings = Settings::new(&source);
    assert_eq!(
        settings.duration("A", Duration::ZERO),
        Duration::from_secs(5400)
    );
    assert_eq!(
        settings.duration("B", Duration::ZERO),
        Duration::from_millis(250)
    );
    assert_eq!(settings.duration("C", Duration::ZERO), Duration::ZERO);
    let mistakes = settings.finish(()).unwrap_err().to_string();
    assert_eq!(mistakes, "C is longer than 10 years");
}
