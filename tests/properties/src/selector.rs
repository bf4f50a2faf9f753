//! Which installation a call is about: `gateway/src/request/selector.rs`.
//!
//! Input: a line with the query, one with the path or with the method and the path, headers, an empty line, the body.

use gateway::fuzzing::{Names, Owner, Request, Selector};
use http::Method;
use store::UserType;

use crate::input;

const ID: &str = "install_00112233445566778899aabb";
const LOCATION: &str = "LOC1";
const COMPANY: &str = "COM1";

/// In order of precedence.
const SOURCES: [&str; 11] = [
    "the header X-Installation-Id",
    "installation_id in the query",
    "locationId in the query",
    "location_id in the query",
    "altId in the query",
    "companyId in the query",
    "the path",
    "the company in the path",
    "locationId in the body",
    "altId in the body",
    "companyId in the body",
];

/// The order of precedence holds, a later place never replaces an earlier one, and a token is used only if every
/// place names its owner.
pub fn check(bytes: &[u8]) {
    let ([query, path], rest) = input::lines(bytes);
    let (head, body) = input::head_and_body(rest);
    let (query, path, headers) = (input::text(query), input::text(path), input::headers(head));
    let method = path
        .split_once(' ')
        .and_then(|(method, path)| Some((method.parse().ok()?, path)));
    let (method, path) = method.unwrap_or((Method::GET, &path));
    let request = Request {
        headers: &headers,
        query: Some(&query),
        method: &method,
        path: Some(path),
        body,
    };
    let selectors = request.selectors();
    let text = input::text(body);
    let readable = Request {
        body: text.as_bytes(),
        ..request
    };
    assert_eq!(readable.selectors(), selectors, "invalid UTF-8 hides one");
    precedence(&request, &selectors);
    for user_type in [UserType::Location, UserType::Company] {
        agreement(&request, &selectors, user_type);
    }
}

fn rank(selector: &Selector) -> usize {
    let found = SOURCES.iter().position(|source| *source == selector.source);
    found.expect("a known source")
}

fn precedence(request: &Request<'_>, selectors: &[Selector]) {
    assert!(selectors.is_sorted_by(|one, next| rank(one) < rank(next)));
    let has_header = request.headers.contains_key("x-installation-id");
    let first = selectors.first();
    if has_header {
        assert_eq!(
            first.map(rank),
            Some(0),
            "the header is present, and decides"
        );
    }
    // The body and the path add to what the rest names, and change nothing of it.
    for (without, last) in [
        (
            Request {
                body: b"",
                ..*request
            },
            8,
        ),
        (
            Request {
                body: b"",
                path: None,
                ..*request
            },
            6,
        ),
        (
            Request {
                body: b"",
                path: None,
                query: None,
                ..*request
            },
            1,
        ),
    ] {
        // These are read only if the path is that of an operation with them.
        let needs_path = |it: &&Selector| [3, 5].contains(&rank(it));
        let stays = |it: &&Selector| rank(it) < last && (without.path.is_some() || !needs_path(it));
        let expected: Vec<_> = selectors.iter().filter(stays).collect();
        assert_eq!(without.selectors().iter().collect::<Vec<_>>(), expected);
    }
    let mut others = request.headers.clone();
    others.remove("x-installation-id");
    let without_header = Request {
        headers: &others,
        ..*request
    };
    let expected: Vec<_> = selectors.iter().filter(|it| rank(it) > 0).collect();
    let found = without_header.selectors();
    assert_eq!(found.iter().collect::<Vec<_>>(), expected);
}

fn agreement(request: &Request<'_>, selectors: &[Selector], user_type: UserType) {
    let owner = Owner {
        id: ID.parse().expect("an id"),
        user_type,
        location: (user_type == UserType::Location).then(|| LOCATION.parse().expect("an id")),
        company: Some(COMPANY.parse().expect("an id")),
    };
    let Some(agreed) = request.agrees_on(owner) else {
        assert!(selectors.is_empty());
        return;
    };
    // The first one has selected the token.
    let others_fit = selectors[1..].iter().all(|it| fits(it, user_type));
    assert_eq!(agreed.is_ok(), others_fit, "{selectors:?}");
}

fn fits(selector: &Selector, user_type: UserType) -> bool {
    let value = selector.value.as_str();
    match (selector.names, user_type) {
        (Names::Installation, UserType::Location) => value == ID || value == LOCATION,
        (Names::Installation, UserType::Company) => value == ID || value == COMPANY,
        (Names::Location, UserType::Location) => value == LOCATION,
        // Only GHL knows the locations of an agency.
        (Names::Location, UserType::Company) => true,
        (Names::Company, UserType::Location | UserType::Company) => value == COMPANY,
    }
}
