//! The user contexts of GHL's custom pages: `ghl::UserContext`.

use ghl::UserContext;
use secrecy::SecretString;

use crate::input::{self, assert_showable};

const SECRET: &str = "6f1f6b0e-3a0f-4a52-9b7c-5d1a2c3e4f50";

/// Another secret beside the right one changes nothing, and a context has a user, who is not shown.
pub fn check(bytes: &[u8]) {
    let text = input::text(bytes);
    let secrets = |all: &[&str]| -> Vec<SecretString> {
        all.iter().map(|it| SecretString::from(*it)).collect()
    };
    let opened = UserContext::open(&secrets(&[SECRET]), &text);
    for all in [["other", SECRET], [SECRET, "other"]] {
        assert_eq!(UserContext::open(&secrets(&all), &text), opened);
    }
    assert!(UserContext::open(&secrets(&[]), &text).is_err());
    match opened {
        Ok(context) => {
            let user = context.user().expect("a user");
            assert!(!user.is_empty());
            assert!(context.active_location() != Some(""));
        }
        Err(error) => assert_showable(&error.to_string(), 100),
    }
}
