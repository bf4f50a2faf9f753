use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;

const AT: i64 = 1_800_000_000_000;

fn jwt(claims: &Value) -> String {
    let claims = BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
    format!("e30.{claims}.c2ln")
}

/// An access token of GHL for this owner.
fn token_of(class: &str, id: &str) -> String {
    let seconds = AT / 1000;
    jwt(&json!({ "authClass": class, "authClassId": id, "iat": seconds - 86_399, "exp": seconds }))
}

fn parse(row: &Value) -> Result<TokenRow, RowError> {
    TokenRow::parse(&row.to_string(), None)
}

/// A location's row with these members more.
fn with(members: &Value) -> Value {
    let mut row = json!({ "access_token": "a", "refresh_token": "r", "locationId": "L" });
    let members = members.as_object().unwrap().clone();
    row.as_object_mut().unwrap().extend(members);
    row
}

#[test]
fn expiry_is_read_in_every_spelling_and_unit() {
    let iso = "2027-01-15T08:00:00.000Z";
    for members in [
        json!({ "expires_at": iso }),
        json!({ "expiresAt": AT }),
        json!({ "expiresAt": AT / 1000 }),
        json!({ "expires_at": AT.to_string() }),
        json!({ "expires_at": (AT / 1000).to_string() }),
        json!({ "expires_at": "2027-01-15T09:00:00+01:00" }),
        json!({ "expire_at": 1.8e12 }),
        json!({ "expire_at": { "$numberLong": AT.to_string() } }),
        json!({ "expire_at": { "$numberDouble": "1.8E12" } }),
        json!({ "expire_at": { "$date": iso } }),
        json!({ "expire_at": { "$date": { "$numberLong": AT.to_string() } } }),
        json!({ "expires_in": 3600, "updatedAt": { "$date": "2027-01-15T07:00:00Z" } }),
        json!({ "access_token": token_of("Location", "L") }),
        json!({ "access_token": token_of("Location", "L"), "expires_at": AT + 9_000_000 }),
    ] {
        let row = parse(&with(&members)).unwrap();
        assert_eq!(row.expires_at_ms, Some(AT), "{members}");
        assert!(row.issued_at_ms < Some(AT), "{members}");
    }
    let exact = json!({ "access_token": token_of("Location", "L"), "expires_at": AT + 734 });
    assert_eq!(parse(&with(&exact)).unwrap().expires_at_ms, Some(AT + 734));
    for unknown in [
        json!({}),
        json!({ "expires_in": 3600 }),
        json!({ "expires_at": null }),
    ] {
        assert_eq!(parse(&with(&unknown)).unwrap().expires_at_ms, None);
    }
    for bad in [
        json!("soon"),
        json!(3600),
        json!(true),
        json!(1.0e300),
        json!({ "$date": "never" }),
    ] {
        let row = with(&json!({ "expires_at": bad }));
        assert_eq!(parse(&row).unwrap_err(), RowError::BadExpiry, "{bad}");
    }
}

#[test]
fn document_of_the_sdk_for_node_is_read_as_it_is() {
    let document = json!({
        "_id": { "$oid": "65f0c0ffee65f0c0ffee65f0" },
        "applicationId": "6571", "resourceId": "ve9EPM428h8vShlRW1KT",
        "access_token": "a", "refresh_token": "r", "token_type": "Bearer", "expires_in": 86_399,
        "scope": "contacts.readonly contacts.write", "userType": "Location",
        "companyId": "C", "userId": "U", "expire_at": { "$numberLong": AT.to_string() },
        "createdAt": { "$date": "2027-01-14T08:00:01Z" }, "updatedAt": { "$date": "2027-01-14T08:00:01Z" },
    });
    let row = parse(&document).unwrap();
    assert_eq!(row.location_id.as_deref(), Some("ve9EPM428h8vShlRW1KT"));
    assert_eq!(row.company_id.as_deref(), Some("C"));
    assert_eq!(row.application_id.as_deref(), Some("6571"));
    assert_eq!(row.expires_at_ms, Some(AT));
    assert_eq!(row.issued_at_ms, Some(AT - 86_399_000));
    assert_eq!(row.scope, "contacts.readonly contacts.write");
    let mut agency = document;
    agency["userType"] = json!("Company");
    agency["resourceId"] = json!("C");
    let agency = parse(&agency).unwrap();
    assert_eq!((agency.user_type, agency.location_id), ("Company", None));
    assert_eq!(agency.company_id.as_deref(), Some("C"));
}

#[test]
fn owner_is_derived_where_the_row_does_not_name_it() {
    let tokens = |members: &Value| {
        let mut row = json!({ "accessToken": "a", "refreshToken": "r" });
        let members = members.as_object().unwrap().clone();
        row.as_object_mut().unwrap().extend(members);
        row
    };
    for (members, key, user_type, id) in [
        (
            json!({ "location_id": "L", "company_id": "C" }),
            None,
            "Location",
            "L",
        ),
        (json!({ "companyId": "C" }), None, "Company", "C"),
        (
            json!({ "userType": "company", "companyId": "C", "locationId": "L" }),
            None,
            "Company",
            "C",
        ),
        (
            json!({ "resourceId": "C", "companyId": "C" }),
            None,
            "Company",
            "C",
        ),
        (json!({ "_id": "L" }), None, "Location", "L"),
        (json!({}), Some("L"), "Location", "L"),
        (json!({ "companyId": "C" }), Some("L"), "Location", "L"),
        (json!({ "companyId": "C" }), Some("C"), "Company", "C"),
        (
            json!({ "accessToken": token_of("Location", "L") }),
            None,
            "Location",
            "L",
        ),
        (
            json!({ "accessToken": token_of("Company", "C") }),
            None,
            "Company",
            "C",
        ),
        (
            json!({ "accessToken": token_of("Company", "C"), "companyId": "C", "locationId": "L" }),
            None,
            "Company",
            "C",
        ),
        (
            json!({ "refreshToken": token_of("Location", "L") }),
            None,
            "Location",
            "L",
        ),
        (json!({ "locationId": 12 }), None, "Location", "12"),
    ] {
        let row = TokenRow::parse(&tokens(&members).to_string(), key).unwrap();
        let named = match row.user_type {
            "Location" => row.location_id.clone(),
            _ => row.company_id.clone(),
        };
        assert_eq!(
            (row.user_type, named.as_deref()),
            (user_type, Some(id)),
            "{members} {key:?}"
        );
    }
}

#[test]
fn row_that_contradicts_its_token_is_refused() {
    let row = |members: &Value| parse(&with(members)).unwrap_err();
    let of_company = token_of("Company", "C");
    assert_eq!(
        row(&json!({ "access_token": of_company, "userType": "Location" })),
        RowError::OtherKind {
            claimed: "Company",
            stated: "Location"
        }
    );
    assert_eq!(
        row(&json!({ "access_token": token_of("Location", "L2") })),
        RowError::OtherOwner("Location")
    );
    let swapped = json!({ "refresh_token": token_of("Location", "L2") });
    let swapped = TokenRow::parse(&swapped.to_string(), Some("L1"));
    assert_eq!(swapped.unwrap_err(), RowError::OtherOwner("Location"));
}

#[test]
fn error_says_what_to_do_and_quotes_nothing() {
    const SECRET: &str = "eyJhbGciOi.secret";
    let cases = [
        (json!([SECRET]), RowError::NotARow),
        (json!({ "locationId": SECRET }), RowError::NoToken),
        (
            json!({ "access_token": SECRET, "locationId": "L" }),
            RowError::NoRefreshToken,
        ),
        (
            json!({ "access_token": "pit-1", "locationId": "L" }),
            RowError::PrivateToken,
        ),
        (
            json!({ "refresh_token": format!("{SECRET} x") }),
            RowError::NotAToken("refresh_token"),
        ),
        (
            json!({ "refresh_token": { "v": SECRET } }),
            RowError::NotAToken("refresh_token"),
        ),
        (json!({ "refresh_token": SECRET }), RowError::NoOwner),
        (
            json!({ "refresh_token": SECRET, "userType": "Location" }),
            RowError::NoLocation,
        ),
        (
            json!({ "refresh_token": SECRET, "userType": "Company" }),
            RowError::NoCompany,
        ),
        (with(&json!({ "userType": SECRET })), RowError::BadUserType),
        (with(&json!({ "expires_at": SECRET })), RowError::BadExpiry),
        (
            with(&json!({ "external_id": "a\nb" })),
            RowError::BadExternalId,
        ),
        (with(&json!({ "tags": SECRET })), RowError::BadTags),
        (with(&json!({ "tags": ["a", "", "b"] })), RowError::BadTags),
    ];
    for (row, expected) in cases {
        let error = parse(&row).unwrap_err();
        assert_eq!(error, expected, "{row}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn bare_token_of_a_map_is_a_refresh_token_unless_it_is_short_lived() {
    let bare = |token: &str| TokenRow::parse(&json!(token).to_string(), Some("L"));
    let year = jwt(&json!({ "iat": 1_800_000_000, "exp": 1_831_536_000 }));
    for refresh in ["opaque", &year] {
        let row = bare(refresh).unwrap();
        assert_eq!(row.refresh_token.expose_secret(), refresh);
        assert!(row.access_token.is_none());
        assert_eq!(row.expires_at_ms, None);
    }
    assert_eq!(
        bare(&token_of("Location", "L")).unwrap_err(),
        RowError::NoRefreshToken
    );
    assert_eq!(bare("pit-1").unwrap_err(), RowError::PrivateToken);
}

#[test]
fn customer_and_nested_tokens_are_read() {
    let row = json!({
        "locationId": "L", "externalId": 17, "tags": ["vip", "eu"],
        "tokens": { "accessToken": "a", "refreshToken": "r", "scope": ["x", "y z"] },
    });
    let row = parse(&row).unwrap();
    assert_eq!(row.external_id.as_deref(), Some("17"));
    assert_eq!(row.tags, ["vip", "eu"]);
    assert_eq!(row.refresh_token.expose_secret(), "r");
    assert_eq!(row.scope, "x y z");
}

/// The places of the rows, and whether each is JSON.
fn places(text: &str) -> Vec<(String, bool)> {
    let entries = split(text).unwrap().into_iter();
    entries
        .map(|entry| (entry.place.to_string(), entry.raw.is_ok()))
        .collect()
}

#[test]
fn each_kind_of_document_is_taken_apart() {
    let is = |place: &str, is_json| (place.to_owned(), is_json);
    let row = r#"{"refresh_token":"r"}"#;
    assert_eq!(
        places(&format!("\u{feff} [{row},\n 1]")),
        [is("element 1", true), is("element 2", true)]
    );
    let lines = format!("{row}\n\n{{\"a\":\n{row}\r\n");
    assert_eq!(
        places(&lines),
        [is("line 1", true), is("line 3", false), is("line 4", true)]
    );
    assert_eq!(
        places(&format!("nonsense\n{row}")),
        [is("line 1", false), is("line 2", true)]
    );
    assert_eq!(
        places("{\n\"refresh_token\": \"r\",\n\"locationId\": \"L\"\n}"),
        [is("line 1", true)]
    );
    let map = format!("{{\n\"L1\": {row},\n\"eyJh.b.c\": \"x\",\n\"L1\": \"y\"\n}}");
    assert_eq!(
        places(&map),
        [is("key L1", true), is("entry 2", true), is("key L1", true)]
    );
    assert_eq!(split(" \n").unwrap_err(), DocumentError::Empty);
    for no_rows in ["{}", "1", "\"r\"", r#"{"a":1}"#] {
        assert_eq!(
            split(no_rows).unwrap_err(),
            DocumentError::NoRows,
            "{no_rows}"
        );
    }
    for broken in ["[1,", "{\"a\":", "nonsense"] {
        let error = split(broken).unwrap_err();
        assert!(
            matches!(error, DocumentError::NotJson { .. }),
            "{broken}: {error}"
        );
    }
}
