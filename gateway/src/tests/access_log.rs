//! Lines of the access log, and what they say.

use std::sync::atomic::{AtomicU32, Ordering};

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use store::{Scope, Status};

use super::testbed::{LIFETIME, Testbed, get, with};
use crate::access_log::line::Line;

/// The lines that were written since the last call.
fn lines(testbed: &Testbed) -> Vec<Line> {
    std::mem::take(&mut *testbed.gateway.api.access_log.written.lock().unwrap())
}

/// A gateway with this mode, and a key with the name `test` and the scope `proxy`.
async fn testbed_with(mode: &str) -> Testbed {
    let testbed = Testbed::with(&[("EVERGREEN_ACCESS_LOG", mode)]).await;
    testbed.store.put_caller("evg_1", &[Scope::Proxy], None);
    testbed.process_announcements().await;
    testbed
}

#[tokio::test]
async fn failure_of_ghl_has_a_line_with_key_installation_and_attempts() {
    let testbed = testbed_with("errors").await;
    let id = testbed.install(LIFETIME);
    testbed
        .ghl
        .answers(async |_| StatusCode::BAD_GATEWAY.into_response());
    let call = get(&format!("/ghl/contacts/?installation_id={id}"));
    let call = with(call, "authorization", "Bearer evg_1");
    let call = with(call, "x-request-id", "r-1");
    assert_eq!(testbed.send(call).await.status(), 502);

    let lines = lines(&testbed);
    let [line] = &lines[..] else {
        panic!("{lines:?}");
    };
    assert_eq!(line.request_id, "r-1");
    assert_eq!(line.facts.status, 502);
    assert_eq!(line.code, None, "the error is GHL's");
    let record = &line.record;
    assert_eq!(record.path(), "/ghl/contacts/");
    assert_eq!(record.key_name(), Some("test"));
    assert_eq!(record.installation(), Some(id.as_str()));
    assert_eq!(record.app(), Some("default"));
    let attempts = record.attempts();
    assert_eq!(attempts.count, 3);
    assert_eq!(attempts.status, Some(StatusCode::BAD_GATEWAY));
    assert!(attempts.took <= line.facts.took, "{line:?} {attempts:?}");
}

#[tokio::test]
async fn refused_request_has_a_line_with_its_code_and_key() {
    let testbed = testbed_with("errors").await;
    let id = testbed.install(LIFETIME);
    let uri = format!("/v1/installations/{id}/token");
    for (key, code, name) in [
        ("evg_1", "api_key_scope_missing", Some("test")),
        ("evg_unknown", "api_key_invalid", None),
    ] {
        testbed.internal(with(get(&uri), "x-api-key", key)).await;
        let lines = lines(&testbed);
        let [line] = &lines[..] else {
            panic!("{lines:?}");
        };
        assert_eq!(line.code, Some(code));
        assert_eq!(line.record.key_name(), name);
        assert_eq!(line.record.installation(), None, "none was selected");
        assert_eq!(line.record.attempts().count, 0);
        assert!(line.bytes.is_some_and(|bytes| bytes > 0), "{line:?}");
    }
}

#[tokio::test]
async fn installation_without_a_usable_token_is_named() {
    let testbed = testbed_with("errors").await;
    let id = testbed.install(LIFETIME);
    testbed
        .store
        .put(&id, |record| record.status = Status::Revoked, LIFETIME);
    testbed.process_announcements().await;
    let call = get(&format!("/ghl/x?installation_id={id}"));
    assert_eq!(testbed.send(call).await.status(), 400);
    let lines = lines(&testbed);
    let [line] = &lines[..] else {
        panic!("{lines:?}");
    };
    assert_eq!(line.code, Some("installation_revoked"));
    assert_eq!(line.record.installation(), Some(id.as_str()));
}

#[tokio::test]
async fn healthy_request_has_a_line_only_if_all_have_one() {
    for (mode, expected) in [("off", 0), ("errors", 0), ("all", 2)] {
        let testbed = testbed_with(mode).await;
        let id = testbed.install(LIFETIME);
        let answered = AtomicU32::new(0);
        testbed.ghl.answers(move |_| {
            let is_first = answered.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                match is_first {
                    true => StatusCode::SERVICE_UNAVAILABLE.into_response(),
                    false => Response::default(),
                }
            }
        });
        let call = get(&format!("/ghl/x?installation_id={id}"));
        assert_eq!(testbed.send(call).await.status(), 200);
        assert_eq!(testbed.get("/health").await.status(), 200);
        let lines = lines(&testbed);
        assert_eq!(lines.len(), expected, "{mode}: {lines:?}");
        if let Some(call) = lines.first() {
            let attempts = call.record.attempts();
            assert_eq!(attempts.count, 2, "the first attempt was retried");
            assert_eq!(attempts.status, Some(StatusCode::OK));
            assert_eq!(call.record.key_name(), None, "it came without a key");
        }
    }
}

#[tokio::test]
async fn failed_request_has_no_line_if_the_log_is_off() {
    let testbed = testbed_with("off").await;
    assert_eq!(testbed.get("/nowhere").await.status(), 404);
    assert_eq!(lines(&testbed).len(), 0);
}
