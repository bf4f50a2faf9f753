//! HTTPS on both listeners, and certificates that are renewed.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::{Client, Version};
use tests::certificates::Authority;
use tests::client::{self, get};
use tests::program::Start;
use tests::wait::{holds, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{PATIENCE, Served};

/// The serial number of the certificate that a listener shows.
async fn serial(url: &str, authority: &Authority) -> Result<u8, String> {
    let client = authority.client().tls_info(true).build().unwrap();
    let response = client.get(format!("{url}/livez")).send().await;
    let response = response.map_err(|error| format!("{error:?}"))?;
    let info = response
        .extensions()
        .get::<reqwest::tls::TlsInfo>()
        .unwrap();
    let der = info.peer_certificate().unwrap();
    // The version is `[0] 2`, and the serial number follows it.
    let version = [0xa0, 3, 2, 1, 2];
    let at = der.windows(5).position(|it| it == version).unwrap();
    Ok(der[at + 7])
}

async fn wait_for_serial(expected: u8, url: &str, authority: &Authority) {
    until("the certificate", PATIENCE, || async {
        let seen = serial(url, authority).await;
        holds(seen == Ok(expected), seen)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_listeners_speak_https_over_http_1_and_http_2() {
    let authority = Authority::new("own");
    let up = Served::start(Start::evergreen(&["up"]), &authority.issue("up", 1)).await;
    let http2 = super::client(&authority, None);
    let http1 = authority.client().http1_only().build().unwrap();
    up.wait_until_ready(&http2).await;
    for (client, expected) in [(&http2, Version::HTTP_2), (&http1, Version::HTTP_11)] {
        for url in [&up.public, &up.internal] {
            let response = client.get(format!("{url}/readyz")).send().await.unwrap();
            assert_eq!(response.version(), expected, "{url}");
        }
    }
    let (status, metrics) = get(&http2, &format!("{}/metrics", up.internal)).await;
    assert_eq!(status, 200);
    let metrics = metrics.as_str().unwrap();
    assert!(
        metrics.contains("evergreen_tls_certificate_expiry_timestamp_seconds 6"),
        "{metrics}"
    );
    // The whole way: consent, refresh over the hop inside of the process, call.
    let id = client::install(&http2, &up.public, "loc1").await;
    let refresh = format!("{}/v1/installations/{id}/refresh", up.internal);
    let (status, refreshed) = client::send(http2.post(refresh)).await;
    assert_eq!(status, 200, "{refreshed}");
    let call = format!("{}/api/ghl/products?installation_id={id}", up.public);
    let (status, answer) = get(&http1, &call).await;
    assert_eq!(status, 200, "{answer}");
    let banner = up.program.line(&["open https://127.0.0.1"]);
    assert!(banner.is_some(), "{:?}", up.program.log());

    for url in [&up.public, &up.internal] {
        let plain = client::new().get(url.replace("https", "http")).send().await;
        assert!(plain.is_err(), "{plain:?}");
    }
    let stranger = Client::builder().tls_certs_only([]).build().unwrap();
    assert!(stranger.get(&up.public).send().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_certificate_is_used_and_no_connection_is_refused() {
    let authority = Authority::new("own");
    let files = authority.issue("up", 1);
    let up = Served::start(Start::evergreen(&["up"]), &files).await;
    wait_for_serial(1, &up.public, &authority).await;

    let stop = Arc::new(AtomicBool::new(false));
    let connected = Arc::new(AtomicUsize::new(0));
    let calls: Vec<_> = [&up.public, &up.internal]
        .into_iter()
        .map(|url| {
            let (stop, connected) = (Arc::clone(&stop), Arc::clone(&connected));
            let (client, url) = (super::client(&authority, None), format!("{url}/livez"));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    client.get(&url).send().await.unwrap();
                    connected.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    authority.issue_into(&files, 2, 4000);
    for url in [&up.public, &up.internal] {
        wait_for_serial(2, url, &authority).await;
    }
    stop.store(true, Ordering::Relaxed);
    for calls in calls {
        calls.await.unwrap();
    }
    assert!(connected.load(Ordering::Relaxed) > 20);
    let line = up.program.line(&["a new certificate is used"]);
    assert!(line.is_some(), "{:?}", up.program.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_new_certificate_is_logged_and_the_old_one_goes_on() {
    let authority = Authority::new("own");
    let files = authority.issue("up", 1);
    let up = Served::start(Start::evergreen(&["up"]), &files).await;
    wait_for_serial(1, &up.public, &authority).await;

    fs::copy(authority.issue("other", 9).key, &files.key).unwrap();
    let words = [
        "the new certificate is not used",
        "the key of another certificate",
    ];
    let line = up.program.wait_for_line(&words, PATIENCE).await;
    assert!(line.contains("WARN"), "{line}");
    assert_eq!(serial(&up.public, &authority).await, Ok(1));
    assert_eq!(serial(&up.internal, &authority).await, Ok(1));

    authority.issue_into(&files, 3, 2021);
    let words = ["the new certificate is not used", "has expired at 2021"];
    up.program.wait_for_line(&words, PATIENCE).await;
    assert_eq!(serial(&up.public, &authority).await, Ok(1));

    authority.issue_into(&files, 4, 4000);
    wait_for_serial(4, &up.public, &authority).await;
    wait_for_serial(4, &up.internal, &authority).await;
}

/// Strangers begin handshakes and do not finish them. They take places until the time limit, and not longer.
#[tokio::test(flavor = "multi_thread")]
async fn unfinished_handshakes_hold_places_and_memory_for_ten_seconds_only() {
    const PLACES: usize = 200;
    const LIMIT: Duration = Duration::from_secs(10);
    let authority = Authority::new("own");
    let files = authority.issue("up", 1);
    let start = Start::evergreen(&["up"])
        .env("EVERGREEN_MAX_CONNECTIONS", PLACES)
        .env("EVERGREEN_MAX_CONNECTIONS_PER_ADDRESS", PLACES);
    let up = Served::start(start, &files).await;
    wait_for_serial(1, &up.public, &authority).await;
    let before = up.program.resident_kb();

    let address = up.public.strip_prefix("https://").unwrap().to_owned();
    let begun = tokio::time::Instant::now();
    let mut strangers = Vec::new();
    for _ in 0..PLACES {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        // The beginning of a record that announces 16 KB.
        stream.write_all(&[22, 3, 1, 64, 0, 1]).await.unwrap();
        strangers.push(tokio::spawn(async move {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }));
    }
    until("a refusal", PATIENCE, || async {
        let seen = serial(&up.public, &authority).await;
        holds(seen.is_err(), seen)
    })
    .await;
    let after = up.program.resident_kb();
    assert!(after < before + 64 * PLACES as u64, "{before} {after}");
    for stranger in strangers {
        stranger.await.unwrap();
    }
    let waited = begun.elapsed();
    assert!(waited >= LIMIT && waited < 2 * LIMIT, "{waited:?}");
    wait_for_serial(1, &up.public, &authority).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hangup_uses_a_new_certificate_and_refuses_a_bad_one() {
    const HANGUP: i32 = 1;
    let authority = Authority::new("own");
    let files = authority.issue("up", 1);
    let up = Served::start(Start::evergreen(&["up"]), &files).await;
    wait_for_serial(1, &up.public, &authority).await;
    authority.issue_into(&files, 2, 4000);
    up.program.signal(HANGUP);
    let words = ["the settings were read again", "EVERGREEN_TLS_CERT"];
    let line = up.program.wait_for_line(&words, PATIENCE).await;
    assert!(!line.contains("needs_restart"), "{line}");
    wait_for_serial(2, &up.public, &authority).await;

    fs::copy(authority.issue("other", 9).key, &files.key).unwrap();
    up.program.signal(HANGUP);
    let words = [
        "everything stays as it is",
        "the key of another certificate",
    ];
    up.program.wait_for_line(&words, PATIENCE).await;
    assert_eq!(serial(&up.public, &authority).await, Ok(2));
}
