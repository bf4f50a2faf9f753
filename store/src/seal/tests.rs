use super::*;

fn label(installation: &InstallationId) -> Label<'_> {
    Label {
        purpose: Purpose::AccessToken,
        installation,
        generation: Generation::FIRST,
    }
}

#[test]
fn sealed_value_opens_only_under_its_own_label() {
    let ring = KeyRing::generate("one");
    let (mine, theirs) = (InstallationId::random(), InstallationId::random());
    let sealed = ring.seal(label(&mine), b"token");
    assert_eq!(
        ring.open(label(&mine), &sealed).unwrap().as_slice(),
        b"token"
    );
    let elsewhere = [
        label(&theirs),
        Label {
            purpose: Purpose::RefreshToken,
            ..label(&mine)
        },
        Label {
            generation: Generation::FIRST.next(),
            ..label(&mine)
        },
    ];
    for label in elsewhere {
        assert_eq!(ring.open(label, &sealed), Err(OpenError::Forged));
    }
}

#[test]
fn every_flipped_bit_and_truncation_is_detected() {
    let ring = KeyRing::generate("one");
    let id = InstallationId::random();
    let sealed = ring.seal(label(&id), b"token");
    for index in 0..sealed.0.len() {
        let mut damaged = sealed.clone();
        damaged.0[index] ^= 1;
        assert!(ring.open(label(&id), &damaged).is_err(), "byte {index}");
    }
    for length in 0..sealed.0.len() {
        let short = Sealed(sealed.0[..length].to_vec());
        assert!(ring.open(label(&id), &short).is_err(), "{length} bytes");
    }
}

#[test]
fn keys_rotate_by_putting_a_new_one_in_front() {
    let (old, new) = (KeyRing::generate_text("old"), KeyRing::generate_text("new"));
    let both = format!("{},{}", new.expose_secret(), old.expose_secret());
    let id = InstallationId::random();
    let sealed = KeyRing::parse(&old).unwrap().seal(label(&id), b"token");
    let both = KeyRing::parse(&both.into()).unwrap();
    assert!(both.open(label(&id), &sealed).is_ok());
    let resealed = both.seal(label(&id), b"token");
    let new = KeyRing::parse(&new).unwrap();
    assert!(new.open(label(&id), &resealed).is_ok());
    assert_eq!(
        new.open(label(&id), &sealed),
        Err(OpenError::UnknownKey("old".to_owned()))
    );
}

#[test]
fn resealed_value_needs_the_first_key_alone() {
    let (old, new) = (KeyRing::generate_text("old"), KeyRing::generate_text("new"));
    let both = format!("{},{}", new.expose_secret(), old.expose_secret());
    let both = KeyRing::parse(&both.into()).unwrap();
    let (old, new) = (KeyRing::parse(&old).unwrap(), KeyRing::parse(&new).unwrap());
    let id = InstallationId::random();
    let sealed = old.seal(label(&id), b"token");
    assert_eq!(sealed.key_id(), Some("old"));
    let resealed = both.reseal(label(&id), &sealed).unwrap().unwrap();
    assert_eq!(resealed.key_id(), Some("new"));
    let opened = new.open(label(&id), &resealed).unwrap();
    assert_eq!(opened.as_slice(), b"token");
    assert_eq!(both.reseal(label(&id), &resealed), Ok(None));
    let unknown = Err(OpenError::UnknownKey("old".to_owned()));
    assert_eq!(new.reseal(label(&id), &sealed), unknown);
    assert_eq!(Sealed(vec![9, 1]).key_id(), None);
}

#[test]
fn lost_key_opens_nothing_and_is_no_first_key() {
    let (old, new) = (KeyRing::generate_text("old"), KeyRing::generate_text("new"));
    let text = format!("old:lost,{}", new.expose_secret());
    let ring = KeyRing::parse(&text.into()).unwrap();
    assert!(ring.is_lost("old") && !ring.is_lost("new"));
    assert_eq!(ring.first_id(), "new");
    let id = InstallationId::random();
    let sealed = KeyRing::parse(&old).unwrap().seal(label(&id), b"token");
    let unknown = Err(OpenError::UnknownKey("old".to_owned()));
    assert_eq!(ring.open(label(&id), &sealed), unknown);
    assert!(KeyRing::parse(&"old:lost".into()).is_err());
}

#[test]
fn check_value_is_the_same_for_the_same_key_and_id_only() {
    let text = KeyRing::generate_text("a");
    let values = |text: &str| {
        let ring = KeyRing::parse(&text.into()).unwrap();
        let values = ring.check_values().map(|(_, check)| check.to_owned());
        values.collect::<Vec<_>>()
    };
    let text = text.expose_secret();
    assert_eq!(values(text), values(text));
    let renamed = text.replacen("a:", "b:", 1);
    assert_ne!(values(text), values(&renamed));
    assert_ne!(
        values(text),
        values(KeyRing::generate_text("a").expose_secret())
    );
    assert_eq!(values(text)[0].len(), 2 * CHECK_BYTES);
}

#[test]
fn error_names_the_bad_key_id_and_never_the_key() {
    let parse = |text: &str| KeyRing::parse(&text.into()).map(|_| ()).unwrap_err();
    assert_eq!(parse(""), RingError::Empty);
    assert_eq!(parse("c2VjcmV0"), RingError::Malformed(1));
    assert_eq!(parse("a:c2VjcmV0"), RingError::BadKey("a".to_owned()));
    assert_eq!(parse("a b:c2VjcmV0"), RingError::BadId(1));
    let ring = KeyRing::generate_text("a");
    let twice = format!("{0},{0}", ring.expose_secret());
    assert_eq!(parse(&twice), RingError::Duplicate("a".to_owned()));
    assert_eq!(format!("{:?}", KeyRing::parse(&ring).unwrap()), r#"{"a"}"#);
}

#[test]
fn replaced_keys_seal_and_open_for_everybody_who_shares_the_ring() {
    let (old, new) = (KeyRing::generate_text("old"), KeyRing::generate_text("new"));
    let both = format!("{},{}", new.expose_secret(), old.expose_secret());
    let both = KeyRing::parse(&both.into()).unwrap();
    let shared = std::sync::Arc::new(KeyRing::parse(&old).unwrap());
    let id = InstallationId::random();
    let before = shared.seal(label(&id), b"token");
    let held = shared.clone();
    assert!(!shared.is_same_as(&both));
    shared.replace(&both);
    assert!(held.is_same_as(&both));
    assert_eq!(held.first_id(), "new");
    assert!(held.open(label(&id), &before).is_ok());
    held.replace(&KeyRing::parse(&new).unwrap());
    let unknown = Err(OpenError::UnknownKey("old".to_owned()));
    assert_eq!(shared.open(label(&id), &before), unknown);
}

#[test]
fn wider_ring_seals_as_before_and_opens_what_the_next_one_sealed() {
    let [old, new] = ["old", "new"].map(KeyRing::generate);
    let wider = old.and_opens_as(&new);
    assert_eq!(wider.first_id(), "old");
    let id = InstallationId::random();
    for ring in [&old, &new] {
        let sealed = ring.seal(label(&id), b"token");
        assert!(wider.open(label(&id), &sealed).is_ok());
    }
}
