//! One location under two apps: which installation a call takes.

use axum::response::Response;
use http::StatusCode;
use store::{InstallationId, Scope, Status};

use super::testbed::{LIFETIME, Testbed, get, json, with};

/// The location `LOC` with an installation of the app `default` (`token-1`), and one of `staging` (`token-2`).
struct TwoApps {
    testbed: Testbed,
    default: InstallationId,
    staging: InstallationId,
}

impl TwoApps {
    async fn new() -> Self {
        let testbed = Testbed::new().await;
        let [default, staging] = [(); 2].map(|()| testbed.install(LIFETIME));
        for (id, app) in [(&default, "default"), (&staging, "staging")] {
            let change = |record: &mut store::record::StoredAccess| {
                record.location = Some("LOC".parse().unwrap());
                record.app = app.parse().unwrap();
                if app == "staging" {
                    record.generation = record.generation.next();
                }
            };
            testbed.store.put(id, change, LIFETIME);
        }
        testbed.store.put_caller("any", &[Scope::Proxy], None);
        testbed.process_announcements().await;
        Self {
            testbed,
            default,
            staging,
        }
    }

    /// Calls GHL for the location, with a key and perhaps a named app.
    async fn call(&self, key: &str, app: Option<&str>) -> Response {
        let mut request = with(get("/ghl/contacts/?locationId=LOC"), "x-api-key", key);
        if let Some(app) = app {
            request = with(request, "x-evergreen-app", app);
        }
        self.testbed.send(request).await
    }

    fn token_seen(&self) -> String {
        let seen = self.testbed.ghl.seen().pop().expect("a call");
        assert_eq!(
            seen.header("x-evergreen-app"),
            None,
            "it is for the gateway"
        );
        seen.header("authorization").unwrap_or_default().to_owned()
    }
}

#[tokio::test]
async fn ambiguous_call_lists_the_apps_and_a_header_chooses_one() {
    let apps = TwoApps::new().await;
    let response = apps.call("any", None).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let body = json(response).await;
    assert_eq!(body["code"], "app_ambiguous");
    let message = body["message"].as_str().unwrap();
    assert!(message.contains("default, staging"), "{message}");
    for (app, token) in [("default", "Bearer token-1"), ("staging", "Bearer token-2")] {
        let response = apps.call("any", Some(app)).await;
        assert_eq!(response.status(), StatusCode::OK, "{app}");
        assert_eq!(apps.token_seen(), token);
    }
    let response = apps.call("any", Some("another")).await;
    assert_eq!(json(response).await["code"], "installation_not_found");
}

#[tokio::test]
async fn key_for_one_app_needs_no_header_and_gets_no_other_app() {
    let apps = TwoApps::new().await;
    let store = &apps.testbed.store;
    store.put_caller("staging", &[Scope::Proxy], None);
    store.limit_to_app("staging", "staging");
    apps.testbed.process_announcements().await;
    assert_eq!(apps.call("staging", None).await.status(), StatusCode::OK);
    assert_eq!(apps.token_seen(), "Bearer token-2");
    let refused = apps.call("staging", Some("default")).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let uri = format!("/ghl/contacts/?installation_id={}", apps.default);
    let request = with(get(&uri), "x-api-key", "staging");
    let refused = apps.testbed.send(request).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn key_for_one_of_the_installations_needs_no_header() {
    let apps = TwoApps::new().await;
    let only = Some(vec![apps.staging.clone(), InstallationId::random()]);
    apps.testbed.store.put_caller("some", &[Scope::Proxy], only);
    apps.testbed.process_announcements().await;
    assert_eq!(apps.call("some", None).await.status(), StatusCode::OK);
    assert_eq!(apps.token_seen(), "Bearer token-2");
}

#[tokio::test]
async fn installation_that_has_ended_does_not_make_a_call_ambiguous() {
    let apps = TwoApps::new().await;
    let end = |record: &mut store::record::StoredAccess| record.status = Status::Revoked;
    apps.testbed.store.put(&apps.default, end, LIFETIME);
    apps.testbed.process_announcements().await;
    assert_eq!(apps.call("any", None).await.status(), StatusCode::OK);
    assert_eq!(apps.token_seen(), "Bearer token-2");
}
