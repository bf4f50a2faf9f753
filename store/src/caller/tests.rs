use secrecy::ExposeSecret;

use super::*;

#[test]
fn caller_round_trips_through_its_fields() {
    let caller = Caller {
        name: "crm sync".to_owned(),
        scopes: vec![Scope::Proxy, Scope::Tokens],
        app: Some("staging".parse().unwrap()),
        installations: Some(vec![InstallationId::random(), InstallationId::random()]),
        calls: Some(vec![
            "GET,POST /contacts/*".parse().unwrap(),
            "* /products".parse().unwrap(),
        ]),
        quota: Some("100/10s".parse().unwrap()),
        created_at: Timestamp::from_millis(5),
        expires_at: Some(Timestamp::from_millis(9)),
        revoked_at: None,
    };
    assert_eq!(Caller::from_fields(&caller.to_fields()), Ok(caller.clone()));
    let for_all = Caller {
        app: None,
        installations: None,
        calls: None,
        quota: None,
        ..caller
    };
    assert_eq!(Caller::from_fields(&for_all.to_fields()), Ok(for_all));
}

#[test]
fn older_reader_refuses_a_key_with_rules_about_calls() {
    let mut caller = Caller {
        name: "reads".to_owned(),
        scopes: vec![Scope::Proxy],
        app: None,
        installations: None,
        calls: Some(vec!["GET /contacts/*".parse().unwrap()]),
        quota: None,
        created_at: Timestamp::from_millis(5),
        expires_at: None,
        revoked_at: None,
    };
    assert!(caller.may_call("GET", "/contacts/1"));
    assert!(!caller.may_call("GET", "/users/"));
    let needed = |caller: &Caller| caller.to_fields().parse_optional::<u32>("min");
    assert_eq!(needed(&caller), Ok(Some(CALLS_SCHEMA)));
    caller.calls = None;
    assert!(caller.may_call("DELETE", "/users/"));
    assert_eq!(needed(&caller), Ok(None));
}

#[test]
fn key_for_one_app_may_use_no_installation_of_another_and_older_readers_refuse_it() {
    let (staging, id) = ("staging".parse().unwrap(), InstallationId::random());
    let caller = Caller {
        name: "staging".to_owned(),
        scopes: vec![Scope::Proxy],
        app: Some("staging".parse().unwrap()),
        installations: None,
        calls: None,
        quota: None,
        created_at: Timestamp::from_millis(5),
        expires_at: None,
        revoked_at: None,
    };
    assert!(caller.may_use(&id, None, &staging));
    assert!(!caller.may_use(&id, None, &AppName::default()));
    let needed = caller.to_fields().parse_optional::<u32>("min");
    assert_eq!(needed, Ok(Some(APP_SCHEMA)));
}

#[test]
fn older_reader_refuses_a_key_that_may_see_the_console() {
    let caller = Caller {
        name: "looks".to_owned(),
        scopes: vec![Scope::View],
        app: None,
        installations: None,
        calls: None,
        quota: None,
        created_at: Timestamp::from_millis(5),
        expires_at: None,
        revoked_at: None,
    };
    let fields = caller.to_fields();
    assert_eq!(fields.parse_optional::<u32>("min"), Ok(Some(VIEW_SCHEMA)));
    assert_eq!(Caller::from_fields(&fields), Ok(caller.clone()));
    assert!(caller.may(Scope::View) && !caller.may(Scope::Admin));
    assert!(!caller.may(Scope::Proxy) && !caller.may(Scope::Tokens));
}

#[test]
fn record_without_quota_field_has_no_quota() {
    let mut made = Fields::new();
    made.set("name", "old");
    made.set("inst", "*");
    made.set("made", 5);
    assert_eq!(Caller::from_fields(&made).unwrap().quota, None);
    made.set("quota", "many");
    let malformed = Err(Unreadable::Malformed("quota"));
    assert_eq!(Caller::from_fields(&made), malformed);
}

#[test]
fn empty_lists_permit_nothing() {
    let caller = Caller {
        name: "x".to_owned(),
        scopes: vec![Scope::Proxy],
        app: None,
        installations: Some(Vec::new()),
        calls: Some(Vec::new()),
        quota: None,
        created_at: Timestamp::from_millis(0),
        expires_at: Some(Timestamp::from_millis(10)),
        revoked_at: None,
    };
    let id = InstallationId::random();
    assert!(!caller.may_use(&id, None, &AppName::default()));
    assert!(!caller.may_call("GET", "/"));
    assert_eq!(Caller::from_fields(&caller.to_fields()), Ok(caller.clone()));
    assert!(!caller.may(Scope::Admin));
    assert!(caller.is_live(Timestamp::from_millis(9)));
    assert!(!caller.is_live(Timestamp::from_millis(10)));
}

#[test]
fn key_has_a_checksum() {
    let key = new_key();
    let key = key.expose_secret();
    assert!(is_well_formed(key));
    let last = if key.ends_with('0') { '1' } else { '0' };
    for wrong in [
        &format!("{}{last}", &key[..key.len() - 1]),
        &key[..68],
        "",
        "evg_",
    ] {
        assert!(!is_well_formed(wrong), "{wrong}");
    }
}

#[test]
fn admin_scope_includes_the_others() {
    let of = |scopes: &[Scope]| Caller {
        name: "x".to_owned(),
        scopes: scopes.to_vec(),
        app: None,
        installations: None,
        calls: None,
        quota: None,
        created_at: Timestamp::from_millis(0),
        expires_at: None,
        revoked_at: None,
    };
    for scope in Scope::ALL {
        assert!(of(&[Scope::Admin]).may(scope), "{scope}");
        assert_eq!(
            of(&[Scope::Proxy]).may(scope),
            matches!(scope, Scope::Proxy | Scope::Metrics)
        );
    }
}

#[test]
fn hash_round_trips_and_debug_shows_a_prefix_only() {
    let hash = KeyHash::of("evg_1");
    assert_eq!(hash.to_string().parse(), Ok(hash));
    assert!(format!("{hash:?}").len() < 24);
    assert!("é".repeat(32).parse::<KeyHash>().is_err());
    for other in ["+f", "AB"] {
        let parsed = other.repeat(32).parse::<KeyHash>();
        assert!(parsed.is_err(), "one hash has one text");
    }
}
