//! More calls at once than there are places for.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::StatusCode;
use http_body_util::BodyExt;
use service::listen::Handler as _;
use store::InstallationId;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::world::{LIFETIME, World, get, json, post, text, with};

const SOON: Duration = Duration::from_secs(10);
/// Under the floor of 5 minutes.
const LITTLE: Duration = Duration::from_secs(60);
/// Of a token that expires within a test.
const LIFE: Duration = Duration::from_secs(2);

async fn one_place() -> World {
    World::with(&[("EVERGREEN_MAX_REQUESTS", "1")]).await
}

/// A call that goes on by itself.
fn begin(world: &World, request: Request) -> JoinHandle<Response> {
    let public = world.gateway.public();
    tokio::spawn(async move { public.handle(request).await })
}

async fn status(call: JoinHandle<Response>) -> StatusCode {
    timeout(SOON, call).await.unwrap().unwrap().status()
}

/// What GHL tells of a location whose one call in so many milliseconds was this.
fn used_up_for(interval_ms: &'static str) -> [(&'static str, &'static str); 3] {
    [
        ("x-ratelimit-interval-milliseconds", interval_ms),
        ("x-ratelimit-max", "1"),
        ("x-ratelimit-remaining", "0"),
    ]
}

async fn arrived(world: &World, count: usize) {
    let arriving = async {
        while world.ghl.seen().len() < count {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, arriving).await.unwrap();
}

#[tokio::test]
async fn who_finds_no_place_waits_for_one_and_is_refused_when_its_time_is_over() {
    let world = one_place().await;
    let id = world.install(LIFETIME);
    let may_answer = Arc::new(Semaphore::new(0));
    world.ghl.answers({
        let may_answer = Arc::clone(&may_answer);
        move |_| {
            let may_answer = Arc::clone(&may_answer);
            async move {
                may_answer.acquire().await.unwrap().forget();
                Response::default()
            }
        }
    });
    let call = || get(&format!("/ghl/x?installation_id={id}"));
    let first = begin(&world, call());
    arrived(&world, 1).await;
    let impatient = with(call(), "x-request-timeout", "50ms");
    let refused = timeout(SOON, world.send(impatient)).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
    let patient = begin(&world, call());
    world.heard().await;
    assert_eq!(world.ghl.seen().len(), 1);
    may_answer.add_permits(2);
    assert_eq!(status(first).await, StatusCode::OK);
    assert_eq!(status(patient).await, StatusCode::OK);
}

#[tokio::test]
async fn a_token_that_expires_while_its_call_waits_is_replaced_first() {
    let world = one_place().await;
    let (other, id) = (world.install(LIFETIME), InstallationId::random());
    world.store.put(&id, |record| record.lifetime = LIFE, LIFE);
    world.let_broker_refresh(&id);
    world.ghl.answers(async |request: Request| {
        if request.uri().path() == "/slow" {
            sleep(LIFE).await;
        }
        Response::default()
    });
    let slow = begin(&world, get(&format!("/ghl/slow?installation_id={other}")));
    arrived(&world, 1).await;
    let waiting = begin(&world, get(&format!("/ghl/x?installation_id={id}")));
    world.heard().await;
    assert_eq!(world.broker.lines(), [""; 0], "it is good still");
    assert_eq!(status(slow).await, StatusCode::OK);
    assert_eq!(status(waiting).await, StatusCode::OK);
    let sent = &world.ghl.seen()[1];
    assert_eq!(sent.header("authorization"), Some("Bearer token-2"));
}

#[tokio::test]
async fn who_waits_for_its_locations_turn_keeps_nobody_from_a_place() {
    let world = one_place().await;
    let (used_up, other) = (world.install(LIFETIME), world.install(LIFETIME));
    world
        .ghl
        .answers(async |_| (used_up_for("60000"), "").into_response());
    let call = |id| {
        let call = get(&format!("/ghl/x?installation_id={id}"));
        with(call, "x-request-timeout", "1h")
    };
    assert_eq!(world.send(call(&used_up)).await.status(), StatusCode::OK);
    let waiting = begin(&world, call(&used_up));
    world.heard().await;
    let passed = timeout(SOON, world.send(call(&other))).await.unwrap();
    assert_eq!(passed.status(), StatusCode::OK);
    assert!(!waiting.is_finished());
    assert_eq!(world.ghl.seen().len(), 2);
}

#[tokio::test]
async fn nor_does_who_waits_for_it_again() {
    let world = one_place().await;
    let (refused, other) = (world.install(LIFETIME), world.install(LIFETIME));
    world.ghl.answers(async |request: Request| {
        if request.uri().path() == "/refused" {
            (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "60")]).into_response()
        } else {
            Response::default()
        }
    });
    let again = get(&format!("/ghl/refused?installation_id={refused}"));
    let waiting = begin(&world, with(again, "x-request-timeout", "1h"));
    arrived(&world, 1).await;
    let passed = world.send(get(&format!("/ghl/x?installation_id={other}")));
    let passed = timeout(SOON, passed).await.unwrap();
    assert_eq!(passed.status(), StatusCode::OK);
    assert!(!waiting.is_finished());
}

#[tokio::test]
async fn a_body_that_is_sent_late_has_its_time_all_the_same() {
    let world = World::with(&[("EVERGREEN_RESPONSE_TIMEOUT", "500ms")]).await;
    let id = world.install(LIFETIME);
    let used_up = get(&format!("/ghl/x?installation_id={id}"));
    world.ghl.answers(async |request: Request| {
        let whole = request.into_body().collect().await.unwrap().to_bytes();
        (used_up_for("1000"), whole).into_response()
    });
    assert_eq!(world.send(used_up).await.status(), StatusCode::OK);
    // It comes when it is read, and not at once.
    let body = stream::once(async {
        sleep(Duration::from_millis(50)).await;
        Ok::<_, axum::Error>("the body")
    });
    let uri = format!("/ghl/x?installation_id={id}");
    let response = world.send(post(&uri, Body::from_stream(body))).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(text(response).await, "the body");
}

#[tokio::test]
async fn those_who_wait_have_so_much_memory_together() {
    let for_ever = ["EVERGREEN_REFRESH_WAIT", "EVERGREEN_EXPIRED_WAIT"].map(|it| (it, "1h"));
    let world = World::with(&for_ever).await;
    let id = world.install(LIFETIME);
    let (old, expired) = (world.install(LITTLE), world.install(Duration::ZERO));
    world
        .ghl
        .answers(async |_| (used_up_for("1000"), "").into_response());
    world.broker.answers(async |_| pending().await);
    let call = || get(&format!("/ghl/x?installation_id={id}"));
    assert_eq!(world.send(call()).await.status(), StatusCode::OK);
    let load = &world.gateway.api.pipeline.admission.concurrency;
    let all: Vec<_> = std::iter::from_fn(|| load.wait_with(1024 * 1024).ok()).collect();
    assert_eq!(all.len(), 254, "of 256 MiB, and 8 KiB for each");
    let small: Vec<_> = std::iter::from_fn(|| load.wait_with(0).ok()).collect();
    for to_wait in [call(), get(&format!("/ghl/x?installation_id={expired}"))] {
        let refused = timeout(SOON, world.send(to_wait)).await.unwrap();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key("retry-after"));
        let why = json(refused).await["message"].clone();
        assert_eq!(why, "The gateway has too much to do");
    }
    let old = get(&format!("/ghl/x?installation_id={old}"));
    // Less than a broker that hangs is given.
    let at_once = timeout(Duration::from_secs(4), world.send(old)).await;
    assert_eq!(at_once.unwrap().status(), StatusCode::OK, "its token works");
    drop((all, small));
    assert_eq!(world.send(call()).await.status(), StatusCode::OK);
}
