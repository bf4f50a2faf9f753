//! Short texts that come from the store, from other processes or from a browser: announcements, ids, quotas, addresses,
//! reports of servers, and the state of a consent.

use store::connection::Address;
use store::{
    AppName, CompanyId, InstallationId, Invalidation, KeyRing, LocationId, Quota, Timestamp,
};
use store::{consent_state, freshness::Lead};
use store_writer::check::Info;

use crate::input::{self, assert_showable};

/// A password in the corpus.
const MARK: &str = "hunter2secret";

const RING: &str = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A text is written as it was read, no name can change a key of the store, and no state of a stranger is valid.
pub fn check(bytes: &[u8]) {
    let text = input::text(bytes);
    let text = text.trim_end_matches('\n');
    match Invalidation::from_message(text).to_message() {
        Some(message) => assert_eq!(
            Invalidation::from_message(&message),
            Invalidation::from_message(text)
        ),
        None => assert_eq!(Invalidation::from_message(text), Invalidation::ChannelLost),
    }
    ids(text);
    if let Ok(quota) = text.parse::<Quota>() {
        assert_eq!(quota.to_string().parse(), Ok(quota));
        assert!(!quota.to_string().contains(char::is_whitespace));
    }
    if let Ok(lead) = text.parse::<Lead>() {
        assert_eq!(lead.to_string().parse(), Ok(lead));
    }
    let _ = Info::parse(text);
    address(text);
    let ring = KeyRing::parse(&RING.into()).expect("a ring");
    for now in [0, 1_700_000_000_000, i64::MAX].map(Timestamp::from_millis) {
        assert_eq!(consent_state::verify(&ring, text, now), None, "{text}");
        assert!(!consent_state::verify_browser_proof(&ring, text, text));
        let app: AppName = text.parse().unwrap_or_default();
        let state = consent_state::issue(&ring, &app, None, now);
        let issued = consent_state::verify(&ring, &state, now).map(|issued| issued.app);
        assert_eq!(issued, Some(app));
        let proof = consent_state::browser_proof(&ring, text);
        assert!(consent_state::verify_browser_proof(&ring, text, &proof));
    }
}

fn ids(text: &str) {
    let names = [
        text.parse::<LocationId>().map(String::from),
        text.parse::<CompanyId>().map(String::from),
        text.parse::<InstallationId>().map(String::from),
        text.parse::<AppName>().map(String::from),
    ];
    for name in names {
        match name {
            Ok(name) => {
                assert_eq!(name, text);
                assert!((1..=64).contains(&name.len()));
                // Keys of the store have these around an id.
                assert!(!name.contains([':', '{', '}', ' ', '/']), "{name}");
                assert_showable(&name, 64);
            }
            Err(error) => assert_showable(&error.to_string(), 80),
        }
    }
    if let Ok(id) = text.parse::<InstallationId>() {
        let _ = (id.partition(), id.jitter_seed());
    }
}

/// The password of a URL is in no message.
fn address(text: &str) {
    let Err(error) = Address::parse(&text.into()) else {
        return;
    };
    let message = error.to_string();
    assert_showable(&message, 260);
    let shown = format!("{error:?} {message}");
    let login = text
        .split_once("://")
        .and_then(|(_, it)| it.split_once('@'));
    let password = login.and_then(|(login, _)| login.split_once(':'));
    if let Some((_, password)) = password
        && password.contains(MARK)
    {
        assert!(!shown.contains(MARK), "{shown}");
    }
}
