//! The texts of API keys and their hashes: `store::caller`.

use ring::digest;
use secrecy::ExposeSecret;
use store::KeyHash;
use store::caller::{KEY_PREFIX, is_well_formed, new_key};
use store::random::to_hex;

use crate::input;

const DIGITS: usize = 64;

/// A key is well formed if and only if evergreen can have made it, and a hash has one text.
pub fn check(bytes: &[u8]) {
    let text = input::text(bytes);
    assert_eq!(is_well_formed(&text), can_be_made(&text), "{text:?}");
    if let Ok(hash) = text.parse::<KeyHash>() {
        assert_eq!(hash.to_string(), text, "one hash has one text");
    }
    let hash = KeyHash::of(&text);
    assert_eq!(hash.to_string().parse(), Ok(hash));

    // A body with its checksum is a key only if the body is.
    let body = format!("{KEY_PREFIX}{text}");
    let digest = digest::digest(&digest::SHA256, body.as_bytes());
    let made = body + &to_hex(&digest.as_ref()[..4]);
    assert_eq!(is_well_formed(&made), can_be_made(&made), "{made:?}");

    // Any wrong character shows.
    let key = new_key();
    let mut key = key.expose_secret().as_bytes().to_vec();
    assert!(is_well_formed(&input::text(&key)));
    let (Some(at), Some(other)) = (bytes.first(), bytes.last()) else {
        return;
    };
    let at = usize::from(*at) % key.len();
    let before = std::mem::replace(&mut key[at], *other);
    assert_eq!(is_well_formed(&input::text(&key)), before == *other);
}

fn can_be_made(text: &str) -> bool {
    let is_digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    let Some(rest) = text.strip_prefix(KEY_PREFIX) else {
        return false;
    };
    let Some((body, sum)) = rest.split_at_checked(DIGITS) else {
        return false;
    };
    let made = format!("{KEY_PREFIX}{body}");
    let digest = digest::digest(&digest::SHA256, made.as_bytes());
    body.chars().all(is_digit) && sum == to_hex(&digest.as_ref()[..4])
}
