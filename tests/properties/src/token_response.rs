//! GHL's token responses: `ghl::TokenResponse`.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use ghl::TokenResponse;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use crate::input::assert_showable;

const SNAKE: [&str; 6] = [
    "access_token",
    "refresh_token",
    "scope",
    "user_type",
    "location_id",
    "company_id",
];
const CAMEL: [&str; 6] = [
    "accessToken",
    "refreshToken",
    "scopes",
    "userType",
    "locationId",
    "companyId",
];

/// An accepted response has usable fields, and means the same in every spelling. A refused one is not quoted.
pub fn check(body: &[u8]) {
    match TokenResponse::parse(body) {
        Err(error) => assert_showable(&error.to_string(), 120),
        Ok(response) => {
            fields_are_usable(&response);
            assert_eq!(response.raw().expose_secret(), body);
            every_spelling_means_the_same(&response);
            debug_output_has_no_token(&response);
        }
    }
}

fn fields_are_usable(response: &TokenResponse) {
    is_token(&response.access_token);
    response.refresh_token.iter().for_each(is_token);
    if let Some(scope) = &response.scope {
        let words: Vec<&str> = scope.split_whitespace().collect();
        assert_eq!(*scope, words.join(" "), "separated by one space");
        assert!(!scope.is_empty() && !scope.contains(','), "{scope:?}");
    }
    for name in [
        &response.user_type,
        &response.location_id,
        &response.company_id,
    ] {
        let name = name.as_deref().unwrap_or("absent");
        assert!(!name.is_empty() && name.trim() == name, "{name:?}");
    }
    let lifetime = response.lifetime();
    let bounds = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);
    assert!(bounds.contains(&lifetime.value), "{lifetime:?}");
    assert_showable(&lifetime.to_string(), 160);
}

fn is_token(token: &SecretString) {
    let token = token.expose_secret();
    assert!(!token.is_empty());
    assert!(token.bytes().all(|byte| byte.is_ascii_graphic()));
}

/// The fields, without the lifetime.
fn fields(response: &TokenResponse) -> [Option<String>; 6] {
    let token = |token: &SecretString| token.expose_secret().to_owned();
    [
        Some(token(&response.access_token)),
        response.refresh_token.as_ref().map(token),
        response.scope.clone(),
        response.user_type.clone(),
        response.location_id.clone(),
        response.company_id.clone(),
    ]
}

fn every_spelling_means_the_same(response: &TokenResponse) {
    let values = fields(response);
    let object = |names: [&str; 6]| {
        let present = names.into_iter().zip(&values);
        let present = present.filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let members = present.map(|(name, value)| (name.to_owned(), json!(value)));
        Value::from(members.collect::<Map<_, _>>()).to_string()
    };
    let plain = object(SNAKE);
    let utf16 = [0xff, 0xfe].into_iter();
    let utf16 = utf16.chain(plain.encode_utf16().flat_map(u16::to_le_bytes));
    for body in [
        plain.clone().into_bytes(),
        object(CAMEL).into_bytes(),
        format!("{{\"data\":{plain}}}").into_bytes(),
        format!("\u{feff}{plain} trailing").into_bytes(),
        utf16.collect(),
        gzip(plain.as_bytes()),
    ] {
        let again = TokenResponse::parse(&body).expect("a response like an accepted one");
        assert_eq!(fields(&again), values);
        assert_eq!(again.claimed_owner(), response.claimed_owner());
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).expect("memory takes all bytes");
    packed.finish().expect("memory takes all bytes")
}

fn debug_output_has_no_token(response: &TokenResponse) {
    let [access_token, refresh_token, others @ ..] = fields(response);
    let shown = format!("{response:?}");
    for token in [access_token, refresh_token].into_iter().flatten() {
        // A shorter one may be in it by chance, and GHL may name an owner like a token.
        let is_named = others.iter().flatten().any(|other| other.contains(&token));
        let is_long = token.len() >= 20 && token.starts_with("eyJ");
        assert!(!is_long || is_named || !shown.contains(&token), "{shown}");
    }
}
