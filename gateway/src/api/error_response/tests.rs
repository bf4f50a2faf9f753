use std::io;
use std::sync::Arc;

use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::*;
use crate::admission::concurrency::Overloaded;
use crate::request::json::NotAnObject;
use crate::request::path::UnsafePath;
use crate::token::cache::Unavailable;
use crate::upstream::Failure;
use store::Scope;

fn refused(why: Refusal) -> Error {
    let id = "install_00112233445566778899aabb".parse().unwrap();
    let app = AppName::default();
    Error::Token(TokenError::Refused { id, app, why })
}

fn late(retry_after_ms: u64) -> Limited {
    Limited::Interval {
        max: 100,
        interval: Duration::from_secs(10),
        retry_after: Duration::from_millis(retry_after_ms),
    }
}

fn failed(kind: Kind) -> Error {
    Error::Upstream(Failure {
        peer: Peer::Ghl,
        kind,
        source: None,
    })
}

#[test]
fn each_error_maps_to_its_status() {
    let store = Unavailable {
        is_store_down: true,
        source: Arc::new(io::Error::other("refused")),
    };
    let none = String::new;
    for (error, status) in [
        (Error::Caller(CallerError::NoKey), 401),
        (Error::Caller(CallerError::UnknownKey), 401),
        (Error::Caller(CallerError::LacksScope(Scope::Tokens)), 403),
        (Error::Select(SelectError::NotAllowed), 403),
        (Error::Select(SelectError::NotNamed), 400),
        (refused(Refusal::Invalid), 400),
        (refused(Refusal::Revoked), 400),
        (refused(Refusal::Inactive), 400),
        (Error::NoLocation, 400),
        (Error::NothingToTest, 400),
        (Error::Path(UnsafePath), 400),
        (Error::Json(NotAnObject), 400),
        (Error::MinTtl(none()), 400),
        (Error::RefusedGeneration, 400),
        (BodyError::Broke.into(), 400),
        (
            Error::NoRoute {
                method: none(),
                path: none(),
            },
            404,
        ),
        (
            Error::WrongMethod {
                method: none(),
                path: none(),
            },
            405,
        ),
        (Error::Timeout, 400),
        (BodyError::Stalled.into(), 408),
        (BodyError::TooLarge { limit: 1 }.into(), 413),
        (Error::Limited(late(1)), 429),
        (failed(Kind::Unreachable), 502),
        (failed(Kind::ConnectionLost), 502),
        (failed(Kind::Malformed), 502),
        (Error::Token(TokenError::Store(store)), 503),
        (Error::Token(TokenError::NoFreshToken(None)), 503),
        (Error::TokenRefreshed, 503),
        (Error::Overloaded(Overloaded::Gateway), 503),
        (Error::Overloaded(Overloaded::Key), 429),
        (failed(Kind::ConnectTimeout), 504),
        (failed(Kind::ResponseTimeout), 504),
    ] {
        let text = error.to_string();
        let response = error.into_response();
        assert_eq!(response.status().as_u16(), status, "{text}");
        let has_retry = response.headers().contains_key(RETRY_AFTER);
        assert_eq!(has_retry, matches!(status, 429 | 503), "{text}");
    }
}

async fn body(error: Error) -> Value {
    let body = error.into_response().into_body();
    serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test]
async fn error_body_has_ghls_shape() {
    const NOT_NAMED: &str = "Installation not found: the request names none. The gateway looks at \
        the header X-Installation-Id, the header locationId, installation_id in the query, \
        locationId in the query, location_id in the query, altId in the query, companyId in the query, \
        the path, the company in the path, the header companyId, locationId in the body, altId in the body, companyId in the body";
    let expected = json!({
        "statusCode": 400,
        "code": "installation_not_named",
        "message": NOT_NAMED,
        "error": "Bad Request",
        "hint": HOW_TO_NAME,
    });
    assert_eq!(body(Error::Select(SelectError::NotNamed)).await, expected);
}

#[tokio::test]
async fn response_429_has_limit_and_retry_after() {
    let day = Limited::Day {
        retry_after: Duration::from_secs(3600),
    };
    let full = Limited::Full {
        retry_after: Duration::from_secs(200),
    };
    let quota = Limited::Quota {
        quota: "5/20s".parse().unwrap(),
        retry_after: Duration::from_millis(3999),
    };
    assert!(quota.to_string().contains("5/20s"), "{quota}");
    for (limited, limit, seconds) in [
        (late(2001), "interval", "3"),
        (late(0), "interval", "1"),
        (full, "interval", "200"),
        (day, "day", "3600"),
        (quota, "quota", "4"),
    ] {
        let response = Error::Limited(limited).into_response();
        assert_eq!(response.headers()[RETRY_AFTER], seconds, "{limited}");
        let body = body(Error::Limited(limited)).await;
        assert_eq!(body["limit"], limit, "{body}");
        assert_eq!(body["statusCode"], 429);
    }
    let text = late(1).to_string();
    assert!(text.contains("100 calls per 10s"), "{text}");
}

#[tokio::test]
async fn invalid_and_revoked_installations_get_the_reconnect_path() {
    for (why, path) in [
        (Refusal::Invalid, json!("/oauth/install")),
        (Refusal::Revoked, json!("/oauth/install")),
        (Refusal::Inactive, Value::Null),
    ] {
        assert_eq!(body(refused(why)).await["reconnect"], path);
    }
    let error = Error::Token(TokenError::Refused {
        id: "install_00112233445566778899aabb".parse().unwrap(),
        app: "staging".parse().unwrap(),
        why: Refusal::Invalid,
    });
    assert_eq!(body(error).await["reconnect"], "/oauth/install?app=staging");
}

#[test]
fn causes_are_logged_and_not_sent_to_the_caller() {
    let cause = io::Error::other("10.0.0.7 refused");
    let error = Error::Upstream(Failure {
        peer: Peer::Broker,
        kind: Kind::Unreachable,
        source: Some(Box::new(cause)),
    });
    assert_eq!(error.to_string(), "The broker cannot be reached");
    assert_eq!(
        ErrorChain(&error).to_string(),
        "The broker cannot be reached: 10.0.0.7 refused"
    );
}
