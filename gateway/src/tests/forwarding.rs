//! The requests that GHL receives, the responses that callers receive, and the errors if GHL does not respond.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use service::handler::Handler as _;
use store::{Scope, Status, UserType};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::testbed::{LIFETIME, LOCAL, Testbed, get, json, post, text, with};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn request_and_response_are_forwarded_with_the_token() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    testbed.ghl.answers(async |request: Request| {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::IM_A_TEAPOT;
        let headers = response.headers_mut();
        headers.insert("x-ratelimit-remaining", "99".parse().unwrap());
        headers.insert("keep-alive", "timeout=5".parse().unwrap());
        response
    });
    testbed.store.put_caller("evg_1", &[Scope::Proxy], None);
    testbed.process_announcements().await;
    let uri = format!("/ghl/contacts/a%20b?x=1&installation_id={id}&y=%2F");
    let mut request = with(post(&uri, "{\"odd\" : 1}"), "x-custom", "kept");
    *request.method_mut() = Method::PATCH;
    let request = with(request, "authorization", "Bearer evg_1");
    let request = with(request, "connection", "x-hop");
    let request = with(request, "x-hop", "1");
    let request = with(request, "x-request-id", "r-1");
    let response = testbed.send(request).await;

    assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
    assert_eq!(response.headers()["x-ratelimit-remaining"], "99");
    assert_eq!(response.headers()["x-request-id"], "r-1");
    assert!(!response.headers().contains_key("keep-alive"));
    assert_eq!(text(response).await, "{\"odd\" : 1}");
    let [seen] = &testbed.ghl.seen()[..] else {
        panic!("{:?}", testbed.ghl.lines());
    };
    assert_eq!(seen.line, "PATCH /contacts/a%20b?x=1&y=%2F");
    assert_eq!(seen.header("authorization"), Some("Bearer token-1"));
    assert_eq!(seen.header("version"), Some(ghl::api::DEFAULT_VERSION));
    assert_eq!(seen.header("user-agent"), Some(ghl::api::USER_AGENT));
    assert_eq!(seen.header("x-custom"), Some("kept"));
    assert_eq!(seen.header("x-request-id"), Some("r-1"));
    assert_eq!(seen.header("x-hop"), None);
}

#[tokio::test]
async fn installation_is_selected_by_header_query_path_or_body() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    let location = testbed.store.location(&id);
    let body = format!(r#"{{"locationId":"{location}"}}"#);
    let typed =
        |body: String, content_type| with(post("/ghl/x", body), "content-type", content_type);
    let multipart = format!(
        "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nx\r\n\
         --b\r\nContent-Disposition: form-data; name=\"locationId\"\r\n\r\n{location}\r\n--b--\r\n"
    );
    let requests = [
        get(&format!("/ghl/x?installation_id={id}")),
        get(&format!("/ghl/x?installation_id={location}")),
        get(&format!("/ghl/x?locationId={location}")),
        get(&format!("/ghl/x?altId={location}&altType=location")),
        get(&format!("/ghl/locations/{location}/tags")),
        with(get("/ghl/x"), "x-installation-id", id.as_str()),
        with(get("/ghl/x"), "x-installation-id", &location),
        get(&format!("/ghl/brand-boards/{location}")),
        get(&format!("/ghl/opportunities/search?location_id={location}")),
        typed(body, "application/json"),
        typed(
            format!("x=y&locationId={location}"),
            "application/x-www-form-urlencoded",
        ),
        typed(multipart, "multipart/form-data; boundary=b"),
    ];
    for request in requests {
        let line = request.uri().to_string();
        assert_eq!(
            testbed.send(request).await.status(),
            StatusCode::OK,
            "{line}"
        );
    }
}

#[tokio::test]
async fn unexamined_body_is_reported() {
    let testbed = Testbed::new().await;
    testbed.install(LIFETIME);
    let json_post = |body: Body| with(post("/ghl/x", body), "content-type", "application/json");
    let coded = |coding| with(json_post(Body::from("{}")), "content-encoding", coding);
    let chunked = json_post(endless(64 * 1024, 5));
    let large = json_post(Body::from(vec![b' '; 256 * 1024 + 1]));
    let large_form = with(
        post("/ghl/x", vec![b'x'; 64 * 1024 + 1]),
        "content-type",
        "multipart/form-data; boundary=b",
    );
    for (request, reason) in [
        (large_form, "it is longer than 64 KiB"),
        (
            coded("gzip"),
            "it is not the gzip that its Content-Encoding says",
        ),
        (
            coded("br"),
            "it is compressed with something else than gzip",
        ),
        (chunked, "it is longer than 256 KiB"),
        (large, "it is longer than 256 KiB"),
    ] {
        let body = json(testbed.send(request).await).await;
        assert_eq!(body["code"], "body_not_examined");
        let message = body["message"].as_str().unwrap();
        assert!(message.starts_with("Installation not found: "), "{message}");
        assert!(message.ends_with(reason), "{message}");
    }
}

#[tokio::test]
async fn missing_unknown_or_conflicting_selectors_get_400() {
    let testbed = Testbed::new().await;
    let (one, other) = (testbed.install(LIFETIME), testbed.install(LIFETIME));
    let elsewhere = testbed.store.location(&other);
    let unknown = "installation_not_found";
    for (uri, code) in [
        ("/ghl/x", "installation_not_named"),
        (
            "/ghl/x?installation_id=install_000000000000000000000000",
            unknown,
        ),
        ("/ghl/x?installation_id=install_nonsense", unknown),
        ("/ghl/x?locationId=nowhere", unknown),
        ("/ghl/x?locationId=a%00b", unknown),
    ] {
        let response = testbed.get(uri).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{uri}");
        let body = json(response).await;
        let message = body["message"].as_str().unwrap();
        assert!(message.starts_with("Installation not found: "), "{message}");
        assert_eq!(
            (&body["code"], &body["statusCode"]),
            (&code.into(), &400.into())
        );
    }
    let response = testbed
        .get(&format!("/ghl/locations/{elsewhere}?installation_id={one}"))
        .await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let message = json(response).await["message"].to_string();
    assert!(
        message.contains(one.as_str()) && message.contains(&elsewhere),
        "{message}"
    );
    assert_eq!(testbed.ghl.lines(), [""; 0]);
}

#[tokio::test]
async fn agency_token_is_used_for_any_location() {
    let testbed = Testbed::new().await;
    let agency = testbed.install(LIFETIME);
    let as_agency = |record: &mut store::record::StoredAccess| {
        record.user_type = UserType::Company;
        record.location = None;
    };
    testbed.store.put(&agency, as_agency, LIFETIME);
    testbed.store.put_owner("COM1", &agency);
    for uri in [
        format!("/ghl/locations/SOMEWHERE?installation_id={agency}"),
        "/ghl/locations/SOMEWHERE?installation_id=COM1".to_owned(),
        "/ghl/x?altId=COM1&altType=company&locationId=SOMEWHERE".to_owned(),
    ] {
        assert_eq!(testbed.get(&uri).await.status(), StatusCode::OK, "{uri}");
    }
}

#[tokio::test]
async fn path_traversal_gets_400() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    for path in ["//evil", "/a/%2e%2e/b", "/..", "/a%5cb"] {
        let uri = format!("/ghl{path}?installation_id={id}");
        let response = testbed.get(&uri).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{path}");
    }
    assert_eq!(testbed.ghl.lines(), [""; 0]);
}

fn endless(chunk: usize, chunks: usize) -> Body {
    let chunk = Bytes::from(vec![b'x'; chunk]);
    let chunks = std::iter::repeat_n(chunk, chunks).map(Ok::<_, axum::Error>);
    Body::from_stream(stream::iter(chunks))
}

#[tokio::test]
async fn upload_is_streamed_up_to_the_body_limit() {
    let testbed = Testbed::with(&[("EVERGREEN_MAX_BODY", "2MB")]).await;
    let id = testbed.install(LIFETIME);
    testbed.ghl.answers(async |request: Request| {
        let length = request
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .len();
        length.to_string().into_response()
    });
    let uri = format!("/api/ghl/medias/upload-file?installation_id={id}");
    let response = testbed.send(post(&uri, endless(50_000, 40))).await;
    assert_eq!(text(response).await, "2000000");
    assert_eq!(testbed.ghl.lines(), ["POST /medias/upload-file"]);

    let response = testbed.send(post(&uri, vec![b'x'; 2_000_001])).await;
    assert_eq!(
        response.status(),
        StatusCode::PAYLOAD_TOO_LARGE,
        "refused by its Content-Length"
    );
    let response = testbed.send(post(&uri, endless(50_000, 41))).await;
    assert_eq!(
        response.status(),
        StatusCode::PAYLOAD_TOO_LARGE,
        "refused while streaming"
    );
}

#[tokio::test]
async fn response_timeout_stalled_body_and_unreachable_host_differ() {
    let testbed = Testbed::with(&[("EVERGREEN_RESPONSE_TIMEOUT", "200ms")]).await;
    let id = testbed.install(LIFETIME);
    let uri = format!("/ghl/x?installation_id={id}");
    testbed.ghl.answers(async |_| std::future::pending().await);
    let response = testbed.get(&uri).await;
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(
        json(response).await["message"],
        "GHL did not answer in time"
    );

    let stalled = Body::from_stream(stream::pending::<Result<Bytes, axum::Error>>());
    let response = testbed.send(post(&uri, stalled)).await;
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);

    let nowhere = Testbed::with(&[("GHL_API_URL", "http://127.0.0.1:1")]).await;
    let id = nowhere.install(LIFETIME);
    let response = nowhere.get(&format!("/ghl/x?installation_id={id}")).await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(json(response).await["message"], "GHL cannot be reached");
}

#[tokio::test]
async fn connect_timeout_gets_504() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(taken) = timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
        waiting.push(taken.unwrap());
    }
    let url = format!("http://{address}");
    let settings = [
        ("GHL_API_URL", url.as_str()),
        ("EVERGREEN_CONNECT_TIMEOUT", "200ms"),
    ];
    let testbed = Testbed::with(&settings).await;
    let id = testbed.install(LIFETIME);
    let response = testbed.get(&format!("/ghl/x?installation_id={id}")).await;
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    let message = json(response).await["message"].clone();
    assert_eq!(message, "GHL could not be reached in time");
}

#[tokio::test]
async fn slow_upload_does_not_hit_the_response_timeout() {
    let testbed = Testbed::with(&[("EVERGREEN_RESPONSE_TIMEOUT", "1s")]).await;
    let id = testbed.install(LIFETIME);
    testbed.ghl.answers(async |request: Request| {
        request.into_body().collect().await.unwrap();
        Response::default()
    });
    let chunks = stream::unfold(0, |sent| async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        (sent < 10).then(|| (Ok::<_, axum::Error>("chunk"), sent + 1))
    });
    let uri = format!("/ghl/x?installation_id={id}");
    let sent = Instant::now();
    let response = testbed.send(post(&uri, Body::from_stream(chunks))).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(sent.elapsed() > Duration::from_millis(1500));
}

#[tokio::test]
async fn cancelled_call_aborts_its_upstream_request() {
    struct DropSignal(mpsc::Sender<()>);
    impl Drop for DropSignal {
        fn drop(&mut self) {
            let _ = self.0.try_send(());
        }
    }

    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    let (begun, mut has_begun) = mpsc::channel(1);
    let (ended, mut has_ended) = mpsc::channel(1);
    testbed.ghl.answers(move |_| {
        let (begun, signal) = (begun.clone(), DropSignal(ended.clone()));
        async move {
            let _signal = signal;
            begun.send(()).await.unwrap();
            std::future::pending().await
        }
    });
    let uri = format!("/ghl/x?installation_id={id}");
    let public = testbed.gateway.public();
    let request = get(&uri);
    let calling = tokio::spawn(async move { public.handle(request, LOCAL).await });
    timeout(SOON, has_begun.recv()).await.unwrap().unwrap();
    calling.abort();
    timeout(SOON, has_ended.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn invalid_or_revoked_installation_gets_the_reconnect_path() {
    let testbed = Testbed::new().await;
    let id = testbed.install(LIFETIME);
    for status in [Status::Invalid, Status::Revoked] {
        testbed
            .store
            .put(&id, |record| record.status = status, LIFETIME);
        testbed.process_announcements().await;
        let response = testbed.get(&format!("/ghl/x?installation_id={id}")).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let body = json(response).await;
        assert_eq!(body["reconnect"], "/oauth/install", "{body}");
        assert_eq!(body["installation_id"], id.as_str());
    }
    assert_eq!(testbed.ghl.lines(), [""; 0]);
}

#[tokio::test]
async fn broker_routes_are_proxied_and_unknown_routes_get_404() {
    let testbed = Testbed::new().await;
    testbed.broker.answers(async |_| {
        let consent = [("location", "https://ghl.example/consent")];
        (StatusCode::FOUND, consent).into_response()
    });
    let response = testbed.get("/oauth/install?plan=1&installation_id=x").await;
    assert_eq!(response.status(), StatusCode::FOUND);
    assert_eq!(
        response.headers()["location"],
        "https://ghl.example/consent"
    );
    // 64 bytes in Base64.
    let signature = format!("{}==", "A".repeat(86));
    let hook = with(post("/webhooks/ghl", "{}"), "x-ghl-signature", &signature);
    testbed.send(hook).await;
    let [install, hook] = &testbed.broker.seen()[..] else {
        panic!("{:?}", testbed.broker.lines());
    };
    assert_eq!(install.line, "GET /oauth/install?plan=1&installation_id=x");
    assert_eq!(hook.header("x-ghl-signature"), Some(signature.as_str()));

    for (request, status) in [
        (get("/nowhere"), 404),
        (get("/ghl"), 404),
        (get("/webhooks/ghl"), 405),
        (post("/health", ""), 405),
    ] {
        let response = testbed.send(request).await;
        assert_eq!(response.status(), status);
        assert_eq!(json(response).await["statusCode"], status);
    }
    assert_eq!(json(testbed.get("/health").await).await["status"], "ok");
}

#[tokio::test]
async fn unread_response_keeps_its_concurrency_permit() {
    let testbed = Testbed::with(&[("EVERGREEN_MAX_REQUESTS", "1")]).await;
    let id = testbed.install(LIFETIME);
    testbed
        .ghl
        .answers(async |_| Response::new(Body::from("an answer")));
    let uri = format!("/ghl/x?installation_id={id}");
    let unread = testbed.get(&uri).await;
    assert_eq!(unread.status(), StatusCode::OK);
    let refused = testbed.get(&uri).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text(unread).await, "an answer");
    assert_eq!(testbed.get(&uri).await.status(), StatusCode::OK);
}
