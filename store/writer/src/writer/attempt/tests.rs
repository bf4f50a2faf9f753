use super::*;
use crate::grant::Fingerprint;
use crate::protocol;

#[test]
fn lost_response_is_retried_until_shortly_before_the_grace_ends() {
    let seconds = Duration::from_secs;
    let began_at = Timestamp::from_millis(1_000_000);
    let begun = |first_spent_at| Begun {
        installation: InstallationId::random(),
        intent: IntentId::random(),
        link: ChainLink {
            consent: String::new(),
            generation: Generation::FIRST,
            fingerprint: Fingerprint::of(&"r".into()),
        },
        refresh_token: "r".into(),
        client: None,
        app: AppName::default(),
        user_type: UserType::Location,
        location: None,
        company: None,
        began_at,
        first_spent_at,
        grace: protocol::DEFAULT_GRACE,
        refused: None,
        failures: 0,
        last_error: None,
        expires_at: None,
        is_takeover: false,
    };
    let first = begun(None);
    assert!(first.retry(seconds(30)).is_none());
    assert!(first.retry(seconds(29)).is_none(), "on its way at the end");
    let again = first.retry(seconds(28)).unwrap();
    assert_eq!(again.first_spent_at, Some(began_at));
    assert_ne!(again.intent, first.intent);
    assert!(again.retry(seconds(29)).is_none(), "of the same grace");
    let later_retry = begun(Some(began_at - seconds(20)));
    assert!(later_retry.retry(seconds(8)).is_some());
    assert!(later_retry.retry(seconds(9)).is_none());
}
