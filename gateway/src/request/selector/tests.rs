use http::HeaderValue;

use super::*;
use crate::token::sources::tests::token;

const OWN: &str = "install_00112233445566778899aabb";
const OTHER: &str = "install_ffffffffffffffffffffffff";

fn selectors_of<'r>(query: &'r str, path: &'r str) -> InstallationSelectors<'r> {
    let none = Box::leak(Box::new(HeaderMap::new()));
    InstallationSelectors::of(none, Some(query), Some(get(path)))
}

fn get(path: &str) -> Call<'_> {
    let method = &Method::GET;
    Call { method, path }
}

fn values<'h>(selectors: &'h InstallationSelectors<'_>) -> Vec<(SelectorSource, &'h str)> {
    let values = selectors
        .iter()
        .map(|selector| (selector.source, &*selector.value));
    values.collect()
}

#[test]
fn selectors_are_collected_in_order_of_precedence() {
    let mut headers = HeaderMap::new();
    headers.insert(headers::INSTALLATION, HeaderValue::from_static("H"));
    let query = "altId=A&x=1&locationId=L&installation_id=I&locationId=second";
    let body = BodyFields::Json(br#"{"companyId":"C","locationId":"B"}"#.into());
    let call = Some(get("/locations/P/tags"));
    let selectors = InstallationSelectors::of(&headers, Some(query), call).with_body(&body);
    let expected = [
        (SelectorSource::Header, "H"),
        (SelectorSource::QueryInstallation, "I"),
        (SelectorSource::QueryLocation, "L"),
        (SelectorSource::QueryAlt, "A"),
        (SelectorSource::Path, "P"),
        (SelectorSource::BodyLocation, "B"),
        (SelectorSource::BodyCompany, "C"),
    ];
    assert_eq!(values(&selectors), expected);
}

#[test]
fn empty_or_unrelated_values_are_not_selectors() {
    for path in ["/locations/search", "/locations/", "/contacts/locations/x"] {
        let selectors = selectors_of("installation_id=&locationId&my_altId=x", path)
            .with_body(&BodyFields::Json(b"not json".into()));
        assert_eq!(values(&selectors), [], "{path}");
    }
}

#[test]
fn invalid_utf8_hides_no_selector() {
    let body = b"{\"locationId\":\"L\",\"companyId\":\"\xff\"}";
    let selectors = InstallationSelectors::default().with_body(&BodyFields::Json(body.into()));
    assert_eq!(selectors.location(), Some("L"));
}

#[test]
fn operation_says_which_places_name_its_owner() {
    let selected = |method: &str, path: &str, query: &str, body: &str| {
        let method = method.parse().unwrap();
        let call = Some(Call {
            method: &method,
            path,
        });
        let none = HeaderMap::new();
        let selectors = InstallationSelectors::of(&none, Some(query), call);
        let selectors = selectors.with_body(&BodyFields::Json(body.as_bytes().into()));
        let found = selectors.iter();
        let found = found.map(|it| (it.source, it.kind, it.value.to_string()));
        found.collect::<Vec<_>>()
    };
    let (location, company) = (Kind::Location, Kind::Company);
    let alt = r#"{"altId":"A","altType":"location"}"#;
    let alt_company = r#"{"altType":"company","altId":"A"}"#;
    for (method, path, query, body, expected) in [
        (
            "GET",
            "/brand-boards/A",
            "",
            "",
            Some((SelectorSource::Path, location)),
        ),
        (
            "POST",
            "/social-media-posting/A/posts/list",
            "",
            "",
            Some((SelectorSource::Path, location)),
        ),
        (
            "GET",
            "/companies/A",
            "",
            "",
            Some((SelectorSource::PathCompany, company)),
        ),
        ("GET", "/companies/A/unknown", "", "", None),
        (
            "GET",
            "/opportunities/search",
            "location_id=A",
            "",
            Some((SelectorSource::QueryLocationSnakeCase, location)),
        ),
        ("GET", "/contacts/", "location_id=B", "", None),
        (
            "GET",
            "/snapshots/",
            "companyId=A",
            "",
            Some((SelectorSource::QueryCompany, company)),
        ),
        ("GET", "/contacts/", "companyId=B", "", None),
        (
            "POST",
            "/invoices/",
            "",
            alt,
            Some((SelectorSource::BodyAlt, location)),
        ),
        (
            "POST",
            "/invoices/",
            "",
            alt_company,
            Some((SelectorSource::BodyAlt, company)),
        ),
        // Here it is a message's id at a provider of email.
        ("POST", "/conversations/messages/inbound", "", alt, None),
        ("POST", "/unknown", "companyId=B&location_id=B", alt, None),
    ] {
        let expected = expected.map(|(source, kind)| (source, kind, "A".to_owned()));
        let found = selected(method, path, query, body);
        assert_eq!(found, Vec::from_iter(expected), "{method} {path}");
    }
}

#[test]
fn spelling_of_a_path_or_query_does_not_hide_a_selector() {
    for (query, path) in [
        ("", "/locations/LOC1/tags"),
        ("", "/locations/LOC1/unknown"),
        ("", "//locations/./LOC%31/tags/"),
        ("", "/%6cocations/LOC1%2Funknown"),
        ("", "/Locations/LOC1"),
        ("location%49d=LOC%31", "/"),
    ] {
        let selectors = selectors_of(query, path);
        assert_eq!(selectors.location(), Some("LOC1"), "{path}?{query}");
    }
}

#[test]
fn alt_type_decides_the_kind_of_alt_id() {
    let kind = |query| selectors_of(query, "/").iter().next().unwrap().kind;
    assert_eq!(kind("altId=x"), Kind::Location);
    assert_eq!(kind("altId=x&altType=location"), Kind::Location);
    assert_eq!(kind("altType=company&altId=x"), Kind::Company);
    assert_eq!(
        kind("altType=location&altId=x&altType=company"),
        Kind::Location
    );
}

fn agrees(token: &Token, query: &str, path: &str, body: &str) -> bool {
    let selectors = selectors_of(query, path).with_body(&BodyFields::Json(body.as_bytes().into()));
    selectors
        .agree_on(token, selectors.iter().next().unwrap())
        .is_ok()
}

#[test]
fn location_token_conflicts_with_another_location_or_company() {
    let token = token();
    let own = format!("installation_id={OWN}");
    for (query, path, body) in [
        (
            "&locationId=LOC1",
            "/locations/LOC1",
            r#"{"locationId":"LOC1","companyId":"COM1"}"#,
        ),
        ("&altId=COM1&altType=company", "/", ""),
    ] {
        assert!(agrees(&token, &format!("{own}{query}"), path, body));
    }
    for (query, path, body) in [
        ("&locationId=LOC2", "/", ""),
        ("&altId=LOC2", "/", ""),
        ("", "/locations/LOC2", ""),
        ("", "/%6Cocations/LOC%32/", ""),
        ("", "/brand-boards/LOC2", ""),
        ("", "/companies/COM2", ""),
        ("", "/", r#"{"locationId":"LOC2"}"#),
        ("", "/", r#"{"companyId":"COM2"}"#),
    ] {
        assert!(!agrees(&token, &format!("{own}{query}"), path, body));
    }
}

#[test]
fn agency_token_accepts_any_location_but_no_other_company() {
    let token = Token {
        user_type: UserType::Company,
        location: None,
        ..token()
    };
    let own = format!("installation_id={OWN}");
    assert!(agrees(
        &token,
        &own,
        "/locations/LOC9",
        r#"{"locationId":"LOC8"}"#
    ));
    assert!(agrees(
        &token,
        "installation_id=COM1",
        "/",
        r#"{"companyId":"COM1"}"#
    ));
    assert!(!agrees(&token, &own, "/", r#"{"companyId":"COM2"}"#));
}

#[test]
fn contradiction_names_both_values_and_sources() {
    let mut headers = HeaderMap::new();
    headers.insert(headers::INSTALLATION, HeaderValue::from_static(OWN));
    let query = format!("installation_id={OTHER}");
    let selectors = InstallationSelectors::of(&headers, Some(&query), None);
    let error = selectors
        .agree_on(&token(), selectors.iter().next().unwrap())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "The request names two installations: {OWN} (the header X-Installation-Id) \
             and {OTHER} (installation_id in the query)"
        )
    );
}

#[test]
fn location_id_is_never_taken_for_an_installation_id() {
    let query = format!("installation_id={OWN}&locationId={OTHER}");
    let selectors = selectors_of(&query, "/");
    let ids: Vec<bool> = selectors.iter().map(InstallationSelector::is_id).collect();
    assert_eq!(ids, [true, false]);
}

#[test]
fn headers_of_ghls_sdks_name_a_location_or_a_company() {
    for (header, source, kind) in [
        ("locationId", SelectorSource::HeaderLocation, Kind::Location),
        (
            "location-id",
            SelectorSource::HeaderLocation,
            Kind::Location,
        ),
        (
            "X-Location-Id",
            SelectorSource::HeaderLocation,
            Kind::Location,
        ),
        ("companyId", SelectorSource::HeaderCompany, Kind::Company),
    ] {
        let name: http::HeaderName = header.parse().unwrap();
        let headers = HeaderMap::from_iter([(name, HeaderValue::from_static("OWNER"))]);
        let selectors = InstallationSelectors::of(&headers, None, None);
        let expected = InstallationSelector {
            source,
            kind,
            value: "OWNER".into(),
        };
        assert_eq!(
            selectors.iter().collect::<Vec<_>>(),
            [&expected],
            "{header}"
        );
    }
    let empty = [(
        "locationid".parse::<http::HeaderName>().unwrap(),
        HeaderValue::from_static(""),
    )];
    let headers = HeaderMap::from_iter(empty);
    assert_eq!(
        InstallationSelectors::of(&headers, None, None)
            .iter()
            .count(),
        0
    );
}
