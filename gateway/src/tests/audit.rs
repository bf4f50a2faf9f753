//! Reports to the audit log.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http_body_util::BodyExt;
use store::audit::{BodyHash, Calls, Happened, Pass, Refusal, Report};
use store::{KeyHash, Scope, Timestamp};

use super::testbed::{LIFETIME, Testbed, get, with};

/// Reports that a broker has taken.
type Reports = Arc<Mutex<Vec<Report>>>;

/// Makes the broker take reports with a valid MAC. It answers others with 401.
fn take_reports(testbed: &Testbed) -> Reports {
    let taken = Reports::default();
    let (reports, ring) = (taken.clone(), testbed.store.ring.clone());
    testbed.broker.answers(move |request: Request| {
        let (reports, ring) = (reports.clone(), ring.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let query = parts.uri.query().unwrap();
            let (at, hash) = query.split_once("&sha256=").unwrap();
            let at = at.strip_prefix("at=").unwrap().parse().unwrap();
            let pass = Pass {
                at: Timestamp::from_millis(at),
                body: hash.to_owned().into(),
            };
            let mac = parts.headers["authorization"].to_str().unwrap();
            if !pass.verify(&ring, mac, pass.at) || BodyHash::of(&body) != pass.body {
                return StatusCode::UNAUTHORIZED.into_response();
            }
            let report = serde_json::from_slice(&body).unwrap();
            reports.lock().unwrap().push(report);
            Response::default()
        }
    });
    taken
}

#[tokio::test]
async fn fetches_and_refusals_are_reported_with_their_keys() {
    let testbed = Testbed::new().await;
    let taken = take_reports(&testbed);
    let id = testbed.install(LIFETIME);
    testbed
        .store
        .put_caller("evg_tokens", &[Scope::Tokens], None);
    testbed.store.put_caller("evg_proxy", &[Scope::Proxy], None);
    testbed.process_announcements().await;
    let uri = format!("/v1/installations/{id}/token");
    for (key, status) in [
        ("evg_tokens", 200),
        ("evg_tokens", 200),
        ("evg_proxy", 403),
        ("evg_unknown", 401),
    ] {
        let response = testbed.internal(with(get(&uri), "x-api-key", key)).await;
        assert_eq!(response.status(), status, "{key}");
    }
    testbed.gateway.finish_audit().await;

    let reports = std::mem::take(&mut *taken.lock().unwrap());
    let events = reports.iter().flat_map(|report| &report.events);
    let mut seen: Vec<_> = events
        .map(|it| (it.happened, it.key, it.installation.clone(), it.count))
        .collect();
    seen.sort_by_key(|(_, _, _, count)| std::cmp::Reverse(*count));
    let refused = |why| Happened::TokenRefused(why);
    let (tokens, proxy) = (KeyHash::of("evg_tokens"), KeyHash::of("evg_proxy"));
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert_eq!(seen[0], (Happened::TokenFetched, Some(tokens), Some(id), 2));
    assert!(seen.contains(&(refused(Refusal::ScopeMissing), Some(proxy), None, 1)));
    assert!(seen.contains(&(refused(Refusal::KeyInvalid), None, None, 1)));
    let used: Vec<_> = reports.iter().flat_map(|report| &report.used).collect();
    assert_eq!(used.len(), 1, "a refused key is not used: {used:?}");
    assert_eq!(used[0].0, tokens);
}

#[tokio::test]
async fn report_that_no_broker_takes_is_sent_again() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    let uri = format!("/v1/installations/{id}/token");
    assert_eq!(testbed.internal(get(&uri)).await.status(), 200);
    let finishing = testbed.gateway.clone();
    let finishing = tokio::spawn(async move { finishing.finish_audit().await });
    while testbed.broker.lines().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let taken = take_reports(&testbed);
    finishing.await.unwrap();
    let events = taken
        .lock()
        .unwrap()
        .iter()
        .map(|it| it.events.len())
        .sum::<usize>();
    assert_eq!(events, 1);
}

#[tokio::test]
async fn token_that_is_not_sent_is_no_fetch() {
    let testbed = Testbed::new().await;
    let taken = take_reports(&testbed);
    let id = testbed.install(LIFETIME);
    let known = with(
        get(&format!("/v1/installations/{id}/token")),
        "if-none-match",
        "\"1\"",
    );
    assert_eq!(testbed.internal(known).await.status(), 304);
    let unknown = get("/v1/installations/nowhere/token");
    assert_eq!(testbed.internal(unknown).await.status(), 400);
    testbed.gateway.finish_audit().await;
    let reports = taken.lock().unwrap();
    assert!(
        reports.iter().all(|report| report.events.is_empty()),
        "{reports:?}"
    );
}

#[tokio::test]
async fn last_calls_are_reported_once_when_the_gateway_stops() {
    let testbed = Testbed::new().await;
    let taken = take_reports(&testbed);
    let id = testbed.install(LIFETIME);
    let call = format!("/ghl/contacts?installation_id={id}");
    for uri in [call.as_str(), call.as_str(), "/ghl/contacts", "/health"] {
        testbed.send(get(uri)).await;
    }
    testbed.gateway.finish_audit().await;
    testbed.gateway.finish_audit().await;
    let reports = taken.lock().unwrap();
    let calls: Vec<_> = reports
        .iter()
        .filter_map(|report| report.gateway.as_ref())
        .map(|gateway| gateway.calls)
        .collect();
    let expected = Calls {
        forwarded: 2,
        refused: 1,
        ..Calls::default()
    };
    assert_eq!(calls, [expected]);
}
