//! What arrives at GHL, what comes back, and what comes back when GHL does not answer.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use service::listen::Handler as _;
use store::{Status, UserType};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::world::{LIFETIME, World, get, json, post, text, with};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_request_arrives_as_it_was_sent_with_the_token() {
    let world = World::new().await;
    let id = world.install(LIFETIME);
    world.ghl.answers(async |request: Request| {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::IM_A_TEAPOT;
        let headers = response.headers_mut();
        headers.insert("x-ratelimit-remaining", "99".parse().unwrap());
        headers.insert("keep-alive", "timeout=5".parse().unwrap());
        response
    });
    let uri = format!("/ghl/contacts/a%20b?x=1&installation_id={id}&y=%2F");
    let mut request = with(post(&uri, "{\"odd\" : 1}"), "x-custom", "kept");
    *request.method_mut() = Method::PATCH;
    let request = with(request, "authorization", "Bearer whatever");
    let request = with(request, "connection", "x-hop");
    let request = with(request, "x-hop", "1");
    let request = with(request, "x-request-id", "r-1");
    let response = world.send(request).await;

    assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
    assert_eq!(response.headers()["x-ratelimit-remaining"], "99");
    assert_eq!(response.headers()["x-request-id"], "r-1");
    assert!(!response.headers().contains_key("keep-alive"));
    assert_eq!(text(response).await, "{\"odd\" : 1}");
    let [seen] = &world.ghl.seen()[..] else {
        panic!("{:?}", world.ghl.lines());
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
async fn an_installation_can_be_named_in_many_ways() {
    let world = World::new().await;
    let id = world.install(LIFETIME);
    let location = world.store.location(&id);
    let body = format!(r#"{{"locationId":"{location}"}}"#);
    let with_json = with(post("/ghl/x", body), "content-type", "application/json");
    let requests = [
        get(&format!("/ghl/x?installation_id={id}")),
        get(&format!("/ghl/x?installation_id={location}")),
        get(&format!("/ghl/x?locationId={location}")),
        get(&format!("/ghl/x?altId={location}&altType=location")),
        get(&format!("/ghl/locations/{location}/tags")),
        with(get("/ghl/x"), "x-installation-id", id.as_str()),
        with(get("/ghl/x"), "x-installation-id", &location),
        with_json,
    ];
    for request in requests {
        let line = request.uri().to_string();
        assert_eq!(world.send(request).await.status(), StatusCode::OK, "{line}");
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_examined_is_reported() {
    let world = World::new().await;
    world.install(LIFETIME);
    let json_post = |body: Body| with(post("/ghl/x", body), "content-type", "application/json");
    let compressed = with(json_post(Body::from("{}")), "content-encoding", "gzip");
    let chunked = json_post(endless(1, 2));
    let large = json_post(Body::from(vec![b' '; 256 * 1024 + 1]));
    for (request, reason) in [
        (compressed, "it is compressed"),
        (chunked, "it has no Content-Length"),
        (large, "it is longer than 256 KiB"),
    ] {
        let body = json(world.send(request).await).await;
        assert_eq!(body["code"], "body_not_examined");
        let message = body["message"].as_str().unwrap();
        assert!(message.starts_with("Installation not found: "), "{message}");
        assert!(message.ends_with(reason), "{message}");
    }
}

#[tokio::test]
async fn what_names_no_installation_or_two_is_refused() {
    let world = World::new().await;
    let (one, other) = (world.install(LIFETIME), world.install(LIFETIME));
    let elsewhere = world.store.location(&other);
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
        let response = world.get(uri).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{uri}");
        let body = json(response).await;
        let message = body["message"].as_str().unwrap();
        assert!(message.starts_with("Installation not found: "), "{message}");
        assert_eq!(
            (&body["code"], &body["statusCode"]),
            (&code.into(), &400.into())
        );
    }
    let response = world
        .get(&format!("/ghl/locations/{elsewhere}?installation_id={one}"))
        .await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let message = json(response).await["message"].to_string();
    assert!(
        message.contains(one.as_str()) && message.contains(&elsewhere),
        "{message}"
    );
    assert_eq!(world.ghl.lines(), [""; 0]);
}

#[tokio::test]
async fn an_agency_acts_on_any_location() {
    let world = World::new().await;
    let agency = world.install(LIFETIME);
    let as_agency = |record: &mut store::record::StoredAccess| {
        record.user_type = UserType::Company;
        record.location = None;
    };
    world.store.put(&agency, as_agency, LIFETIME);
    world.store.put_place("COM1", &agency);
    for uri in [
        format!("/ghl/locations/SOMEWHERE?installation_id={agency}"),
        "/ghl/locations/SOMEWHERE?installation_id=COM1".to_owned(),
        "/ghl/x?altId=COM1&altType=company&locationId=SOMEWHERE".to_owned(),
    ] {
        assert_eq!(world.get(&uri).await.status(), StatusCode::OK, "{uri}");
    }
}

#[tokio::test]
async fn a_path_cannot_leave_ghl() {
    let world = World::new().await;
    let id = world.install(LIFETIME);
    for path in ["//evil", "/a/%2e%2e/b", "/..", "/a%5cb"] {
        let uri = format!("/ghl{path}?installation_id={id}");
        let response = world.get(&uri).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{path}");
    }
    assert_eq!(world.ghl.lines(), [""; 0]);
}

fn endless(chunk: usize, chunks: usize) -> Body {
    let chunk = Bytes::from(vec![b'x'; chunk]);
    let chunks = std::iter::repeat_n(chunk, chunks).map(Ok::<_, axum::Error>);
    Body::from_stream(stream::iter(chunks))
}

#[tokio::test]
async fn a_large_body_streams_up_to_the_limit() {
    let world = World::with(&[("EVERGREEN_MAX_BODY", "2MB")]).await;
    let id = world.install(LIFETIME);
    world.ghl.answers(async |request: Request| {
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
    let response = world.send(post(&uri, endless(50_000, 40))).await;
    assert_eq!(text(response).await, "2000000");
    assert_eq!(world.ghl.lines(), ["POST /medias/upload-file"]);

    let response = world.send(post(&uri, vec![b'x'; 2_000_001])).await;
    assert_eq!(
        response.status(),
        StatusCode::PAYLOAD_TOO_LARGE,
        "told before"
    );
    let response = world.send(post(&uri, endless(50_000, 41))).await;
    assert_eq!(
        response.status(),
        StatusCode::PAYLOAD_TOO_LARGE,
        "found out"
    );
}

#[tokio::test]
async fn silence_and_absence_are_told_apart() {
    let world = World::with(&[("EVERGREEN_RESPONSE_TIMEOUT", "200ms")]).await;
    let id = world.install(LIFETIME);
    let uri = format!("/ghl/x?installation_id={id}");
    world.ghl.answers(async |_| std::future::pending().await);
    let response = world.get(&uri).await;
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(
        json(response).await["message"],
        "GHL did not answer in time"
    );

    let stalled = Body::from_stream(stream::pending::<Result<Bytes, axum::Error>>());
    let response = world.send(post(&uri, stalled)).await;
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);

    let nowhere = World::with(&[("GHL_API_URL", "http://127.0.0.1:1")]).await;
    let id = nowhere.install(LIFETIME);
    let response = nowhere.get(&format!("/ghl/x?installation_id={id}")).await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(json(response).await["message"], "GHL cannot be reached");
}

#[tokio::test]
async fn a_host_that_takes_no_connection_is_given_up() {
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
    let world = World::with(&settings).await;
    let id = world.install(LIFETIME);
    let response = world.get(&format!("/ghl/x?installation_id={id}")).await;
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    let message = json(response).await["message"].clone();
    assert_eq!(message, "GHL could not be reached in time");
}

#[tokio::test]
async fn a_slow_upload_is_not_silence() {
    let world = World::with(&[("EVERGREEN_RESPONSE_TIMEOUT", "1s")]).await;
    let id = world.install(LIFETIME);
    world.ghl.answers(async |request: Request| {
        request.into_body().collect().await.unwrap();
        Response::default()
    });
    let chunks = stream::unfold(0, |sent| async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        (sent < 10).then(|| (Ok::<_, axum::Error>("chunk"), sent + 1))
    });
    let uri = format!("/ghl/x?installation_id={id}");
    let sent = Instant::now();
    let response = world.send(post(&uri, Body::from_stream(chunks))).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(sent.elapsed() > Duration::from_millis(1500));
}

#[tokio::test]
async fn a_caller_that_leaves_takes_its_request_along() {
    struct Told(mpsc::Sender<()>);
    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.try_send(());
        }
    }

    let world = World::new().await;
    let id = world.install(LIFETIME);
    let (begun, mut has_begun) = mpsc::channel(1);
    let (ended, mut has_ended) = mpsc::channel(1);
    world.ghl.answers(move |_| {
        let (begun, told) = (begun.clone(), Told(ended.clone()));
        async move {
            let _told = told;
            begun.send(()).await.unwrap();
            std::future::pending().await
        }
    });
    let uri = format!("/ghl/x?installation_id={id}");
    let public = world.gateway.public();
    let request = get(&uri);
    let calling = tokio::spawn(async move { public.handle(request).await });
    timeout(SOON, has_begun.recv()).await.unwrap().unwrap();
    calling.abort();
    timeout(SOON, has_ended.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_must_be_connected_again_says_so() {
    let world = World::new().await;
    let id = world.install(LIFETIME);
    for status in [Status::Invalid, Status::Revoked] {
        world
            .store
            .put(&id, |record| record.status = status, LIFETIME);
        world.heard().await;
        let response = world.get(&format!("/ghl/x?installation_id={id}")).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let body = json(response).await;
        assert_eq!(body["reconnect"], "/oauth/install", "{body}");
        assert_eq!(body["installation_id"], id.as_str());
    }
    assert_eq!(world.ghl.lines(), [""; 0]);
}

#[tokio::test]
async fn what_is_the_brokers_goes_there_and_what_is_nobodys_is_404() {
    let world = World::new().await;
    world.broker.answers(async |_| {
        let consent = [("location", "https://ghl.example/consent")];
        (StatusCode::FOUND, consent).into_response()
    });
    let response = world.get("/oauth/install?plan=1&installation_id=x").await;
    assert_eq!(response.status(), StatusCode::FOUND);
    assert_eq!(
        response.headers()["location"],
        "https://ghl.example/consent"
    );
    let hook = with(post("/webhooks/ghl", "{}"), "x-ghl-signature", "s");
    world.send(hook).await;
    let [install, hook] = &world.broker.seen()[..] else {
        panic!("{:?}", world.broker.lines());
    };
    assert_eq!(install.line, "GET /oauth/install?plan=1&installation_id=x");
    assert_eq!(hook.header("x-ghl-signature"), Some("s"));

    for (request, status) in [
        (get("/nowhere"), 404),
        (get("/ghl"), 404),
        (get("/webhooks/ghl"), 405),
        (post("/health", ""), 405),
    ] {
        let response = world.send(request).await;
        assert_eq!(response.status(), status);
        assert_eq!(json(response).await["statusCode"], status);
    }
    assert_eq!(json(world.get("/health").await).await["status"], "ok");
}

#[tokio::test]
async fn whoever_still_reads_its_answer_has_its_place() {
    let world = World::with(&[("EVERGREEN_MAX_REQUESTS", "1")]).await;
    let id = world.install(LIFETIME);
    world
        .ghl
        .answers(async |_| Response::new(Body::from("an answer")));
    let uri = format!("/ghl/x?installation_id={id}");
    let unread = world.get(&uri).await;
    assert_eq!(unread.status(), StatusCode::OK);
    let refused = world.get(&uri).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text(unread).await, "an answer");
    assert_eq!(world.get(&uri).await.status(), StatusCode::OK);
}
