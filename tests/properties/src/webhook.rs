//! GHL's webhooks: `ghl::webhook`.
//!
//! Input: headers, an empty line, the body.

use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ghl::webhook::{BadSignature, ED25519_KEY, Event, RSA_KEY, Verifier, is_signed};
use http::{HeaderMap, HeaderValue};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Map, Value};

use crate::input;

static KEY: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("32 bytes"));

/// Of GHL's keys and the test's.
static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let mut der = vec![0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
    der.extend_from_slice(KEY.public_key().as_ref());
    let encoded = BASE64_STANDARD.encode(der);
    let own = format!("-----BEGIN PUBLIC KEY-----\n{encoded}\n-----END PUBLIC KEY-----\n");
    let keys = format!("{ED25519_KEY}\n{own}");
    Verifier::new(&keys, Some(RSA_KEY)).expect("keys in PEM")
});

/// Only a signature of the very body counts, and an event has an identity and a possible date.
pub fn check(bytes: &[u8]) {
    let (head, body) = input::head_and_body(bytes);
    signatures(&input::headers(head), body);
    event(body);
    keys(&input::text(bytes));
}

fn verify(headers: &HeaderMap, body: &[u8]) -> Result<(), BadSignature> {
    VERIFIER.signature(headers)?.verify(body)
}

fn signatures(headers: &HeaderMap, body: &[u8]) {
    if verify(headers, body).is_ok() {
        assert!(is_signed(headers), "a gateway would refuse {headers:?}");
        let signed = headers.get("x-ghl-signature").expect("the newer header");
        let expected = BASE64_STANDARD.encode(KEY.sign(body));
        assert_eq!(signed, expected.as_bytes(), "not by the test's key");
    }
    let names = ["x-ghl-signature", "x-wh-signature"];
    if !names.iter().any(|name| headers.contains_key(*name)) {
        assert_eq!(verify(headers, body), Err(BadSignature::Missing));
        assert!(!is_signed(headers));
    }
    let mut own = headers.clone();
    let signature = BASE64_STANDARD.encode(KEY.sign(body));
    let signature = HeaderValue::try_from(signature).expect("Base64 fits a header");
    own.insert("x-ghl-signature", signature);
    assert_eq!(verify(&own, body), Ok(()));
    let other = [body, b" "].concat();
    assert_eq!(verify(&own, &other), Err(BadSignature::Wrong));
}

fn event(body: &[u8]) {
    let object = serde_json::from_slice::<Map<String, Value>>(body);
    let event = Event::read(body);
    assert_eq!(event.is_some(), object.is_ok());
    let (Some(event), Ok(object)) = (event, object) else {
        return;
    };
    let id = &event.identity;
    assert!(
        (1..=128).contains(&id.len()),
        "{} bytes identify it",
        id.len()
    );
    assert!(id.bytes().all(|byte| byte.is_ascii_graphic()), "{id:?}");
    assert!(event.at_ms.is_none_or(|at| at >= 0), "{event:?}");
    for (field, name) in [
        (&event.kind, "type"),
        (&event.app_id, "appId"),
        (&event.location_id, "locationId"),
        (&event.company_id, "companyId"),
    ] {
        if let Some(Value::String(text)) = object.get(name) {
            assert_eq!(field.as_ref(), Some(text));
        }
    }
}

/// The keys of a setting: twice the same text has the same keys twice.
fn keys(text: &str) {
    let is_valid = Verifier::new(text, None).is_ok();
    assert_eq!(
        Verifier::new(&format!("{text}\n{text}"), None).is_ok(),
        is_valid
    );
    assert!(Verifier::new(&format!("{text}\nno key"), None).is_err());
}
