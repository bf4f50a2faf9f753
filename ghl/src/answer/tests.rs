use std::io::Write;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

const TYPICAL: Duration = Duration::from_secs(86_399);

fn parse(body: &str) -> Answer {
    Answer::parse(body.as_bytes()).unwrap()
}

fn with(field: &str) -> Answer {
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
fn a_full_answer_is_read() {
    let answer = parse(
        r#"{"access_token":"a","token_type":"Bearer","expires_in":86399,"refresh_token":"r",
            "scope":"contacts.write","userType":"Location","locationId":"L","companyId":"C",
            "approvedLocations":["L"],"userId":"U","planId":"P","isBulkInstallation":false}"#,
    );
    assert_eq!(answer.lifetime().value, TYPICAL);
    assert_eq!(answer.lifetime().doubt, None);
    assert_eq!(answer.location_id.as_deref(), Some("L"));
    assert_eq!(answer.is_bulk_installation, Some(false));
    assert_eq!(answer.refresh_token.unwrap().expose_secret(), "r");
}

#[test]
fn both_spellings_are_read_and_snake_case_comes_first() {
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
fn a_strange_field_counts_as_absent() {
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
            let answer = parse(&format!(r#"{{"{field}":{strange},"access_token":"a"}}"#));
            assert_eq!(answer.access_token.expose_secret(), "a");
            assert!(answer.refresh_token.is_none(), "{field} {strange}");
            let texts = [
                answer.scope,
                answer.user_type,
                answer.location_id,
                answer.company_id,
            ];
            assert_eq!(texts, [None, None, None, None], "{field} {strange}");
        }
        let lifetime = with(&format!(r#""expires_in":{strange}"#)).lifetime().value;
        assert_eq!(lifetime, TYPICAL, "{strange}");
    }
}

#[test]
fn scopes_are_one_text_or_several() {
    for scope in [
        r#""a.read b.write""#,
        r#"["a.read","b.write"]"#,
        r#""a.read,b.write""#,
        r#"["a.read b.write", null, 7]"#,
    ] {
        let answer = with(&format!(r#""scope":{scope}"#));
        assert_eq!(answer.scope.as_deref(), Some("a.read b.write"), "{scope}");
    }
}

#[test]
fn ids_are_texts_or_numbers_and_flags_come_in_quotes_too() {
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
        let answer = with(&format!(r#""isBulkInstallation":{flag}"#));
        assert_eq!(answer.is_bulk_installation, meaning, "{flag}");
    }
}

#[test]
fn wrappings_are_undone() {
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
        let answer = Answer::parse(&body).unwrap();
        assert_eq!(answer.access_token.expose_secret(), "a");
        assert_eq!(answer.location_id.as_deref(), Some("é"));
        assert_eq!(answer.raw().expose_secret(), body);
    }
    let latin = b"{\"access_token\":\"a\",\"companyName\":\"Caf\xe9\"}";
    assert!(Answer::parse(latin).is_ok(), "another encoding elsewhere");
}

#[test]
fn a_body_that_grows_without_bound_is_not_unpacked() {
    let bomb = gzip(&vec![b' '; 8 * 1024 * 1024]);
    assert!(bomb.len() < 128 * 1024);
    let refused = Answer::parse(&bomb).unwrap_err();
    assert!(matches!(refused, Unintelligible::TooLarge(_)), "{refused}");
    let cut = &gzip(br#"{"access_token":"a"}"#)[..15];
    assert_eq!(Answer::parse(cut).unwrap_err(), Unintelligible::Compressed);
}

#[test]
fn a_plausible_lifetime_is_taken_as_it_is_said() {
    for (said, seconds) in [
        ("60", 60.0),
        ("3600", 3600.0),
        ("3600.0", 3600.0),
        (r#""3600""#, 3600.0),
        (r#"" 3600.5 ""#, 3600.5),
        ("8.64e4", 86_400.0),
        ("604800", 604_800.0),
    ] {
        let answer = with(&format!(r#""expires_in":{said}"#));
        let lifetime = answer.lifetime();
        assert_eq!(lifetime.value, Duration::from_secs_f64(seconds), "{said}");
        assert_eq!(lifetime.doubt, None, "{said}");
    }
    let short = with(r#""expires_in":20"#);
    assert_eq!(short.lifetime().value, Duration::from_secs(20));
    assert_eq!(short.lifetime().doubt, Some(Doubt::Short));
}

#[test]
fn an_implausible_lifetime_is_replaced_and_said_to_be() {
    for (said, seconds) in [
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
        let answer = with(&format!(r#""expires_in":{said}"#));
        let lifetime = answer.lifetime();
        assert_eq!(lifetime.value, Duration::from_secs(seconds), "{said}");
        let doubt = lifetime.doubt.as_ref();
        assert!(matches!(doubt, Some(Doubt::Replaced { .. })), "{said}");
        assert!(!lifetime.to_string().contains("soon"), "it may be a secret");
    }
}

#[test]
fn a_token_tells_its_lifetime_where_the_answer_cannot() {
    let lifetime = |claims: &str, rest: &str| {
        let payload = BASE64_URL_SAFE_NO_PAD.encode(claims);
        let answer = parse(&format!(r#"{{"access_token":"e30.{payload}.c2ln"{rest}}}"#));
        answer.lifetime().value
    };
    let claims = r#"{"iat":1700000000,"exp":1700003600,"scope":"x"}"#;
    let hour = Duration::from_secs(3600);
    assert_eq!(lifetime(claims, ""), hour);
    for nonsense in ["0", "5", "18446744073709551615", "86399000"] {
        let rest = format!(r#","expires_in":{nonsense}"#);
        assert_eq!(lifetime(claims, &rest), hour, "{nonsense}");
    }
    let said = lifetime(claims, r#","expires_in":60"#);
    assert_eq!(said, Duration::from_secs(60), "GHL's word comes first");
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
        assert_eq!(lifetime(strange, ""), TYPICAL, "{strange}");
    }
}

#[test]
fn a_token_tells_whose_it_is() {
    let claims = r#"{"iat":"?","authClass":"Location","authClassId":"L"}"#;
    let payload = BASE64_URL_SAFE_NO_PAD.encode(claims);
    let answer = parse(&format!(r#"{{"access_token":"e30.{payload}.c2ln"}}"#));
    assert_eq!(answer.claimed_owner(), Some(("Location", "L")));
    assert_eq!(parse(r#"{"access_token":"a"}"#).claimed_owner(), None);
}

#[test]
fn an_answer_without_a_token_is_refused_and_not_repeated() {
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
        let error = Answer::parse(body.as_bytes()).unwrap_err().to_string();
        assert!(
            !error.contains("secr") && !error.contains("html"),
            "{error}"
        );
    }
}

#[test]
fn a_token_of_16_kib_is_accepted() {
    let answer = parse(&format!(
        r#"{{"access_token":"{}"}}"#,
        "x".repeat(16 * 1024)
    ));
    assert_eq!(answer.access_token.expose_secret().len(), 16 * 1024);
}

#[test]
fn nothing_of_an_answer_is_printed() {
    let shown = format!("{:?}", with(r#""scope":"x","note":"hidden""#));
    assert!(
        !shown.contains("hidden") && !shown.contains(r#""r""#),
        "{shown}"
    );
}
