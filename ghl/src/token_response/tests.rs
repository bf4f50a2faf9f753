use std::io::Write;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

const DEFAULT_LIFETIME: Duration = Duration::from_secs(86_399);

fn parse(body: &str) -> TokenResponse {
    TokenResponse::parse(body.as_bytes()).unwrap()
}

fn with(field: &str) -> TokenResponse {
    parse(&format!(
        r#"{{"access_token":"a","refresh_token":"r",{field}}}"#
    ))
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn full_response_is_parsed() {
    let response = parse(
        r#"{"access_token":"a","token_type":"Bearer","expires_in":86399,"refresh_token":"r",
            "scope":"contacts.write","userType":"Location","locationId":"L","companyId":"C",
            "approvedLocations":["L"],"userId":"U","planId":"P","isBulkInstallation":false}"#,
    );
    assert_eq!(response.lifetime().value, DEFAULT_LIFETIME);
    assert_eq!(response.lifetime().warning, None);
    assert_eq!(response.location_id.as_deref(), Some("L"));
    assert_eq!(response.is_bulk_installation, Some(false));
    assert_eq!(response.refresh_token.unwrap().expose_secret(), "r");
}

#[test]
fn both_spellings_are_parsed_and_snake_case_wins() {
    let camel = parse(
        r#"{"accessToken":"a","tokenType":"Bearer","expiresIn":3600,"refreshToken":"r",
            "scope":"x","user_type":"Company","company_id":"C","location_id":"L"}"#,
    );
    assert_eq!(camel.access_token.expose_secret(), "a");
    assert_eq!(camel.refresh_token.as_ref().unwrap().expose_secret(), "r");
    assert_eq!(camel.lifetime().value, Duration::from_secs(3600));
    assert_eq!(camel.user_type.as_deref(), Some("Company"));
    assert_eq!(camel.company_id.as_deref(), Some("C"));
    let both = parse(r#"{"accessToken":"camel","access_token":"snake"}"#);
    assert_eq!(both.access_token.expose_secret(), "snake");
    let unread = parse(r#"{"access_token":null,"accessToken":"camel"}"#);
    assert_eq!(unread.access_token.expose_secret(), "camel");
}

#[test]
fn malformed_field_counts_as_absent() {
    for strange in [
        "null",
        "{}",
        "[]",
        "[{}]",
        "true",
        "1e999",
        r#""\ud800""#,
        r#""""#,
    ] {
        let fields = [
            "refresh_token",
            "scope",
            "userType",
            "locationId",
            "companyId",
        ];
        for field in fields {
            let response = parse(&format!(r#"{{"{field}":{strange},"access_token":"a"}}"#));
            assert_eq!(response.access_token.expose_secret(), "a");
            assert!(response.refresh_token.is_none(), "{field} {strange}");
            let texts = [
                response.scope,
                response.user_type,
                response.location_id,
                response.company_id,
            ];
            assert_eq!(texts, [None, None, None, None], "{field} {strange}");
        }
        let lifetime = with(&format!(r#""expires_in":{strange}"#)).lifetime().value;
        assert_eq!(lifetime, DEFAULT_LIFETIME, "{strange}");
    }
}

#[test]
fn scopes_may_be_a_string_or_an_array() {
    for scope in [
        r#""a.read b.write""#,
        r#"["a.read","b.write"]"#,
        r#""a.read,b.write""#,
        r#"["a.read b.write", null, 7]"#,
    ] {
        let response = with(&format!(r#""scope":{scope}"#));
        assert_eq!(response.scope.as_deref(), Some("a.read b.write"), "{scope}");
    }
}

#[test]
fn ids_may_be_numbers_and_flags_may_be_strings() {
    assert_eq!(
        with(r#""locationId":12345678901234567890123"#)
            .location_id
            .as_deref(),
        Some("12345678901234567890123")
    );
    assert_eq!(with(r#""companyId":"7""#).company_id.as_deref(), Some("7"));
    assert_eq!(with(r#""companyId":7.5"#).company_id, None);
    for (flag, meaning) in [
        ("true", Some(true)),
        (r#""TRUE""#, Some(true)),
        (r#""false""#, Some(false)),
        ("1", Some(true)),
        (r#""0""#, Some(false)),
        (r#""perhaps""#, None),
        ("[]", None),
    ] {
        let response = with(&format!(r#""isBulkInstallation":{flag}"#));
        assert_eq!(response.is_bulk_installation, meaning, "{flag}");
    }
}

#[test]
fn gzip_byte_order_marks_and_data_wrappers_are_removed() {
    let plain = r#"{"access_token":"a","refresh_token":"r","locationId":"é"}"#;
    let wrapped = format!(r#"{{"success":true,"data":{plain}}}"#);
    let utf16 = |unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
        let text = format!("\u{feff}{plain}");
        text.encode_utf16().flat_map(unit).collect()
    };
    let bodies = [
        format!("\u{feff}{plain}").into_bytes(),
        wrapped.clone().into_bytes(),
        gzip(plain.as_bytes()),
        gzip(format!("\u{feff}{wrapped}").as_bytes()),
        utf16(u16::to_le_bytes),
        utf16(u16::to_be_bytes),
        format!("\r\n {plain}\r\n<!-- served by edge -->").into_bytes(),
    ];
    for body in bodies {
        let response = TokenResponse::parse(&body).unwrap();
        assert_eq!(response.access_token.expose_secret(), "a");
        assert_eq!(response.location_id.as_deref(), Some("é"));
        assert_eq!(response.raw().expose_secret(), body);
    }
    let latin = b"{\"access_token\":\"a\",\"companyName\":\"Caf\xe9\"}";
    assert!(
        TokenResponse::parse(latin).is_ok(),
        "another encoding elsewhere"
    );
}

#[test]
fn decompression_stops_at_the_limit() {
    let bomb = gzip(&vec![b' '; 8 * 1024 * 1024]);
    assert!(bomb.len() < 128 * 1024);
    let refused = TokenResponse::parse(&bomb).unwrap_err();
    assert!(matches!(refused, ParseError::TooLarge(_)), "{refused}");
    let cut = &gzip(br#"{"access_token":"a"}"#)[..15];
    assert_eq!(
        TokenResponse::parse(cut).unwrap_err(),
        ParseError::Compressed
    );
}

#[test]
fn plausible_lifetime_is_used_as_stated() {
    for (stated, seconds) in [
        ("60", 60.0),
        ("3600", 3600.0),
        ("3600.0", 3600.0),
        (r#""3600""#, 3600.0),
        (r#"" 3600.5 ""#, 3600.5),
        ("8.64e4", 86_400.0),
        ("604800", 604_800.0),
    ] {
        let response = with(&format!(r#""expires_in":{stated}"#));
        let lifetime = response.lifetime();
        assert_eq!(lifetime.value, Duration::from_secs_f64(seconds), "{stated}");
        assert_eq!(lifetime.warning, None, "{stated}");
    }
    let short = with(r#""expires_in":20"#);
    assert_eq!(short.lifetime().value, Duration::from_secs(20));
    assert_eq!(short.lifetime().warning, Some(LifetimeWarning::Short));
}

#[test]
fn implausible_lifetime_is_replaced_with_a_warning() {
    for (stated, seconds) in [
        ("18446744073709551615", 86_399),
        ("1795880000000", 86_399),
        ("86399000", 86_399),
        ("0", 86_399),
        ("-5", 86_399),
        ("0.5", 86_399),
        ("1e999", 86_399),
        (r#""NaN""#, 86_399),
        (r#""soon""#, 86_399),
        ("3600000", 3600),
    ] {
        let response = with(&format!(r#""expires_in":{stated}"#));
        let lifetime = response.lifetime();
        assert_eq!(lifetime.value, Duration::from_secs(seconds), "{stated}");
        let warning = lifetime.warning.as_ref();
        assert!(
            matches!(warning, Some(LifetimeWarning::Replaced { .. })),
            "{stated}"
        );
        assert!(!lifetime.to_string().contains("soon"), "it may be a secret");
    }
}

#[test]
fn lifetime_is_taken_from_the_token_if_expires_in_is_implausible() {
    let lifetime = |claims: &str, rest: &str| {
        let payload = BASE64_URL_SAFE_NO_PAD.encode(claims);
        let response = parse(&format!(r#"{{"access_token":"e30.{payload}.c2ln"{rest}}}"#));
        response.lifetime().value
    };
    let claims = r#"{"iat":1700000000,"exp":1700003600,"scope":"x"}"#;
    let hour = Duration::from_secs(3600);
    assert_eq!(lifetime(claims, ""), hour);
    for nonsense in ["0", "5", "18446744073709551615", "86399000"] {
        let rest = format!(r#","expires_in":{nonsense}"#);
        assert_eq!(lifetime(claims, &rest), hour, "{nonsense}");
    }
    let stated = lifetime(claims, r#","expires_in":60"#);
    assert_eq!(stated, Duration::from_secs(60), "expires_in comes first");
    let short = lifetime(
        r#"{"iat":1700000000,"exp":1700000020}"#,
        r#","expires_in":20"#,
    );
    assert_eq!(short, Duration::from_secs(20), "both say so");
    let year = lifetime(r#"{"iat":0,"exp":31536000}"#, "");
    assert_eq!(year, Duration::from_secs(604_800));
    for strange in [
        r#"{"iat":2,"exp":1}"#,
        r#"{"iat":0,"exp":1e300}"#,
        r#"{"exp":"soon"}"#,
        "{}",
        "no JSON",
    ] {
        assert_eq!(lifetime(strange, ""), DEFAULT_LIFETIME, "{strange}");
    }
}

#[test]
fn owner_is_read_from_the_claims() {
    let claims = r#"{"iat":"?","authClass":"Location","authClassId":"L"}"#;
    let payload = BASE64_URL_SAFE_NO_PAD.encode(claims);
    let response = parse(&format!(r#"{{"access_token":"e30.{payload}.c2ln"}}"#));
    assert_eq!(response.claimed_owner(), Some(("Location", "L")));
    assert_eq!(parse(r#"{"access_token":"a"}"#).claimed_owner(), None);
}

#[test]
fn response_without_a_token_is_refused_and_the_error_does_not_quote_it() {
    let bodies = [
        "<html>",
        r#"{"access_token":"secr"#,
        "{}",
        "",
        " ",
        "[]",
        r#"{"access_token":7}"#,
        r#"{"access_token":"secr et"}"#,
        r#"{"data":"secr"}"#,
        r#"{"data":{"refresh_token":"secr"}}"#,
    ];
    for body in bodies {
        let error = TokenResponse::parse(body.as_bytes())
            .unwrap_err()
            .to_string();
        assert!(
            !error.contains("secr") && !error.contains("html"),
            "{error}"
        );
    }
}

#[test]
fn token_of_16_kib_is_accepted() {
    let response = parse(&format!(
        r#"{{"access_token":"{}"}}"#,
        "x".repeat(16 * 1024)
    ));
    assert_eq!(response.access_token.expose_secret().len(), 16 * 1024);
}

#[test]
fn debug_output_is_redacted() {
    let shown = format!("{:?}", with(r#""scope":"x","note":"hidden""#));
    assert!(
        !shown.contains("hidden") && !shown.contains(r#""r""#),
        "{shown}"
    );
}
