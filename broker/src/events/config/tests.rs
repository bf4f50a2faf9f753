use std::collections::HashMap;

use super::super::endpoint::{EventPattern, Subject};
use super::*;

const SECRET_A: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SECRET_B: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn read_from(entries: &[(&str, &str)]) -> Result<Vec<Endpoint>, String> {
    let entries = entries
        .iter()
        .map(|(key, value)| ((*key).into(), (*value).into()));
    let source: HashMap<String, String> = entries.collect();
    let mut settings = Settings::new(&source);
    let private_addresses = read_private_addresses(&mut settings);
    let endpoints = read(&mut settings, private_addresses);
    settings
        .finish(endpoints)
        .map_err(|mistakes| mistakes.to_string())
}

fn mistakes_of(entries: &[(&str, &str)]) -> Vec<String> {
    let mistakes = read_from(entries).unwrap_err();
    mistakes.lines().map(str::to_owned).collect()
}

#[test]
fn without_settings_there_is_no_endpoint() {
    assert!(read_from(&[]).unwrap().is_empty());
}

#[test]
fn default_endpoint_gets_all_events() {
    let both = format!("{SECRET_A}, {SECRET_B}");
    let endpoints = read_from(&[(URL, "https://example.com/hook"), (SECRET, &both)]);
    let endpoints = endpoints.unwrap();
    assert_eq!(endpoints.len(), 1);
    assert_eq!(endpoints[0].id.as_str(), "default");
    assert_eq!(endpoints[0].secrets.len(), 2);
    assert!(endpoints[0].wants(&Subject::Event {
        event_type: "installation.connected",
        app: &AppName::default(),
    }));
}

#[test]
fn lists_have_further_endpoints() {
    let endpoints = read_from(&[
        (URL, "https://example.com/hook"),
        (SECRET, SECRET_A),
        ("apps.staging.client_id", "x-1"),
        ("events.1.name", "crm"),
        ("events.1.url", "https://crm.example/hook"),
        ("events.1.secrets", &format!("{SECRET_A}\n{SECRET_B}")),
        ("events.1.types", "installation.*\napp.credentials_rejected"),
        ("events.1.apps", "staging"),
        ("events.2.url", "https://other.example"),
        ("events.2.secret", SECRET_A),
        ("webhooks.1.name", "contacts"),
        ("webhooks.1.url", "https://crm.example/hook"),
        ("webhooks.1.secrets", SECRET_B),
        ("webhooks.1.types", "ContactCreate, INSTALL"),
        ("webhooks.1.locations", "ve9EPM428h8vShlRW1KT"),
    ]);
    let endpoints = endpoints.unwrap();
    let ids: Vec<&str> = endpoints.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(ids, ["default", "crm", "ep_c6ee1067426c", "contacts"]);
    assert_eq!(endpoints[1].secrets.len(), 2);
    assert_eq!(
        endpoints[1].wants,
        Wants::Events {
            types: vec![
                EventPattern::Group("installation.".to_owned()),
                EventPattern::Exactly("app.credentials_rejected"),
            ],
            apps: vec!["staging".parse().unwrap()],
        }
    );
    assert_eq!(
        endpoints[3].wants,
        Wants::Webhooks {
            types: vec!["ContactCreate".to_owned(), "INSTALL".to_owned()],
            locations: vec!["ve9EPM428h8vShlRW1KT".parse().unwrap()],
        }
    );
}

#[test]
fn all_mistakes_of_all_entries_are_reported_with_their_place() {
    let mistakes = mistakes_of(&[
        (SECRET, "whsec_hunter2"),
        ("events.1.name", "Crm"),
        ("events.1.url", "ftp://example.com"),
        ("events.1.colour", "red"),
        (
            "events.2.secrets",
            &format!("{SECRET_A},whsec_hunter2!,hunter2"),
        ),
        ("events.2.types", "installation.connected,whsec_hunter2"),
        ("events.2.apps", "staging"),
        ("webhooks.1.url", "https://user:hunter2@example.com"),
        ("webhooks.1.secret", "whsec_aHVudGVyMg=="),
        ("webhooks.1.types", "hunter 2"),
        ("webhooks.1.locations", "a/b"),
        ("webhooks.1.apps", "default"),
    ]);
    let expected = [
        "EVERGREEN_EVENTS_SECRET signs events for EVERGREEN_EVENTS_URL, which is not set",
        "[[events]] number 1: colour is no setting: there are apps, name, secret, ",
        "[[events]] number 1: url must be an http or https URL",
        "[[events]] number 1: secrets is missing: whsec_",
        "[[events]] number 1: name is none: a name has 1 to 32 lower-case letters",
        "[[events]] number 2: url is not set: where messages are sent",
        "[[events]] number 2: secrets is wrong: secret 2 is not base64",
        "[[events]] number 2: secrets is wrong: secret 3 does not begin with whsec_",
        "[[events]] number 2: apps has staging, and there is no section [apps.staging]",
        "[[events]] number 2: types is wrong: item 2 is not valid: the types of events are installation.",
        "[[webhooks]] number 1: apps is no setting: there are locations, name, ",
        "[[webhooks]] number 1: url must be an http or https URL without user and password",
        "[[webhooks]] number 1: secrets is wrong: secret 1 has 7 bytes after whsec_",
        "[[webhooks]] number 1: types is wrong: item 1 is not valid: a type of GHL's",
        "[[webhooks]] number 1: locations is wrong: item 1 is not valid: ",
    ];
    for start in expected {
        let found = mistakes.iter().any(|it| it.starts_with(start));
        assert!(found, "{start}\nis not among\n{}", mistakes.join("\n"));
    }
    assert_eq!(mistakes.len(), expected.len(), "{}", mistakes.join("\n"));
    assert!(mistakes.iter().all(|it| !it.contains("hunter")));
}

#[test]
fn url_without_a_secret_is_a_mistake() {
    let mistakes = mistakes_of(&[(URL, "https://example.com")]);
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert!(mistakes[0].starts_with("EVERGREEN_EVENTS_SECRET is missing: whsec_"));
    // The same with a list that has none, and one line for a file that cannot be read.
    let mistakes = mistakes_of(&[(URL, "https://example.com"), (SECRET, " , ")]);
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert!(mistakes[0].starts_with("EVERGREEN_EVENTS_SECRET is missing: whsec_"));
    let file = format!("{SECRET}_FILE");
    let mistakes = mistakes_of(&[(URL, "https://example.com"), (&file, "/nowhere")]);
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert!(mistakes[0].contains("cannot be read"), "{mistakes:?}");
}

#[test]
fn private_address_is_a_mistake_unless_allowed() {
    for url in [
        "http://127.0.0.1:9000/hook",
        "http://localhost:9000",
        "https://10.0.0.1",
        "https://[::1]",
        "https://169.254.169.254",
    ] {
        let entries = [(URL, url), (SECRET, SECRET_A)];
        let mistakes = mistakes_of(&entries);
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].starts_with("EVERGREEN_EVENTS_URL is refused: "));
        assert!(mistakes[0].ends_with("set EVERGREEN_EVENTS_ALLOW_PRIVATE=true"));
        let allowed = [
            entries[0],
            entries[1],
            ("EVERGREEN_EVENTS_ALLOW_PRIVATE", "true"),
        ];
        assert_eq!(read_from(&allowed).unwrap().len(), 1, "{url}");
    }
}

#[test]
fn cleartext_beyond_this_machine_is_a_mistake_unless_allowed() {
    let entries = [
        ("events.1.url", "http://example.com/hook"),
        ("events.1.secret", SECRET_A),
    ];
    let mistakes = mistakes_of(&entries);
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert!(mistakes[0].starts_with("[[events]] number 1: url is http://, and leads beyond"));
    let allowed = [
        entries[0],
        entries[1],
        ("EVERGREEN_ALLOW_CLEARTEXT", "true"),
    ];
    assert_eq!(read_from(&allowed).unwrap().len(), 1);
}

#[test]
fn two_endpoints_with_one_id_are_a_mistake() {
    let mistakes = mistakes_of(&[
        (URL, "https://example.com"),
        (SECRET, SECRET_A),
        ("events.1.name", "default"),
        ("events.1.url", "https://a.example"),
        ("events.1.secret", SECRET_A),
        ("events.2.url", "https://b.example"),
        ("events.2.secret", SECRET_A),
        ("webhooks.1.url", "https://b.example/"),
        ("webhooks.1.secret", SECRET_A),
    ]);
    assert_eq!(mistakes.len(), 2, "{mistakes:?}");
    assert!(
        mistakes[0].starts_with("[[events]] number 1: url belongs to an endpoint with the same id")
    );
    assert!(mistakes[0].contains("that of EVERGREEN_EVENTS_URL, which is default:"));
    assert!(mistakes[1].starts_with("[[webhooks]] number 1: url belongs"));
    assert!(mistakes[1].contains("[[events]] number 2: url, which is ep_"));
}
