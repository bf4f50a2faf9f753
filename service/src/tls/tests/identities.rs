//! Certificates and keys that are taken, and those that are not.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::super::validity::{Date, Validity};
use super::{Ca, Files, Pair, listener};

const RSA_CERTIFICATE: &str = include_str!("rsa.pem");
/// PKCS#1.
const RSA_KEY: &str = include_str!("rsa.key.pem");

fn settings<'a>(certificate: &'a str, key: &'a str) -> [(&'a str, &'a str); 2] {
    [
        ("EVERGREEN_TLS_CERT", certificate),
        ("EVERGREEN_TLS_KEY", key),
    ]
}

/// The key in SEC1, which PKCS#8 wraps as its last field.
fn sec1(pair: &Pair) -> String {
    let der = pair.key.serialize_der();
    // It begins with its version, 1. That of PKCS#8 is 0.
    let version = der.windows(3).position(|it| it == [0x02, 0x01, 0x01]);
    let text = BASE64_STANDARD.encode(&der[version.unwrap() - 2..]);
    format!("-----BEGIN EC PRIVATE KEY-----\n{text}\n-----END EC PRIVATE KEY-----\n")
}

#[test]
fn keys_are_taken_in_every_form() {
    let files = Files::new();
    let pair = Ca::new("ca").issue(2020, 2090);
    for (name, certificate, key) in [
        ("PKCS#8", pair.certificate.as_str(), pair.key()),
        ("SEC1", &pair.certificate, sec1(&pair)),
        ("PKCS#1", RSA_CERTIFICATE, RSA_KEY.to_owned()),
    ] {
        let (certificate, key) = (files.write("cert", certificate), files.write("key", &key));
        let read = listener(&settings(&certificate, &key));
        assert!(matches!(read, Ok(Some(_))), "{name}: {read:?}");
    }
}

#[test]
fn unusable_pairs_are_mistakes_that_say_what_to_do() {
    let files = Files::new();
    let ca = Ca::new("ca");
    let good = ca.issue(2020, 2090);
    let expired = ca.issue(2020, 2021);
    let (cert, key) = (
        files.write("c", &good.certificate),
        files.write("k", &good.key()),
    );
    let pasted = good.key();
    let other = files.write("other", &ca.issue(2020, 2090).key());
    let old_certificate = files.write("old", &expired.certificate);
    let old_key = files.write("old.key", &expired.key());
    let cases = [
        (
            settings(&cert, ""),
            "EVERGREEN_TLS_CERT needs EVERGREEN_TLS_KEY: set both, or neither",
        ),
        (
            settings("", &key),
            "EVERGREEN_TLS_KEY needs EVERGREEN_TLS_CERT: set both, or neither",
        ),
        (
            settings("/nowhere", &key),
            "EVERGREEN_TLS_CERT names a file that cannot be read: No such file",
        ),
        (
            settings(&cert, &pasted),
            "EVERGREEN_TLS_KEY must be the path of a PEM file, and not what is in it",
        ),
        (
            settings(&key, &key),
            "EVERGREEN_TLS_CERT names a file without a certificate",
        ),
        (
            settings(&cert, &cert),
            "EVERGREEN_TLS_KEY names a file without a private key that can be read",
        ),
        (
            settings(&cert, &other),
            "EVERGREEN_TLS_KEY names the key of another certificate than the first one in the file that \
             EVERGREEN_TLS_CERT names",
        ),
        (
            settings(&old_certificate, &old_key),
            "EVERGREEN_TLS_CERT names a certificate that has expired at 2021-03-04T00:00:00Z: renew it",
        ),
    ];
    for (settings, expected) in cases {
        let mistakes = listener(&settings).unwrap_err();
        assert!(mistakes.starts_with(expected), "{mistakes}\n{expected}");
        assert!(!mistakes.contains("BEGIN PRIVATE"), "{mistakes}");
        assert_eq!(mistakes.lines().count(), 1, "{mistakes}");
    }
    let mistakes = listener(&[("EVERGREEN_TLS_CLIENT_CA", &cert)]).unwrap_err();
    assert!(
        mistakes.starts_with("EVERGREEN_TLS_CLIENT_CA needs TLS"),
        "{mistakes}"
    );
    assert!(matches!(listener(&[]), Ok(None)));
}

#[test]
fn whole_chain_must_be_valid() {
    let files = Files::new();
    let (leaf, expired) = (
        Ca::new("ca").issue(2020, 2090),
        Ca::new("old").issue(2020, 2021),
    );
    let chain = format!("{}{}", leaf.certificate, expired.certificate);
    let (cert, key) = (files.write("c", &chain), files.write("k", &leaf.key()));
    let mistakes = listener(&settings(&cert, &key)).unwrap_err();
    assert!(mistakes.contains("has expired at 2021"), "{mistakes}");
}

#[test]
fn validity_is_read_in_both_forms_of_dates() {
    let ca = Ca::new("ca");
    let validity = |pair: &Pair| {
        let der = super::super::identity::certificates(pair.certificate.as_bytes()).unwrap();
        let Validity { from, until } = Validity::of(&der[0]).unwrap();
        [from, until].map(|it: Date| it.to_string())
    };
    assert_eq!(
        validity(&ca.issue(1999, 2049)),
        ["1999-01-02T00:00:00Z", "2049-03-04T00:00:00Z"]
    );
    assert_eq!(
        validity(&ca.issue(2050, 2200)),
        ["2050-01-02T00:00:00Z", "2200-03-04T00:00:00Z"]
    );
    for garbage in [&b""[..], b"\x30\x00", b"\x30\x03\x30\x01\x00", &[0xff; 40]] {
        assert!(Validity::of(garbage).is_err());
    }
}
