//! Connections between a broker and GHL: refused, without TLS, with an untrusted certificate, or with slow
//! responses.

use std::time::Duration;

use serde_json::json;
use tests::sandbox::Sandbox;
use tests::tls_fault_proxy::{TlsFault, TlsFaultProxy};
use tests::up::Up;
use tests::wait::{holds, until};

use super::{PATIENCE, lines};

#[tokio::test(flavor = "multi_thread")]
async fn refresh_retries_after_connection_and_tls_errors() {
    let sandbox = Sandbox::start(&[]).await;
    let proxy = TlsFaultProxy::of(&sandbox.url).await;
    let up = Up::start(&[("EVERGREEN_TOKEN_TIMEOUT", "1s")]).await;
    let up = up.against(&sandbox).await;
    let mut up = up
        .with("GHL_API_URL", &proxy.url)
        .with("SSL_CERT_FILE", TlsFaultProxy::certificate());
    // For each fault: the logged kind, the logged cause, and how often GHL replays its response.
    let slow_response = TlsFault::SlowResponse(Duration::from_millis(100));
    let cases = [
        (
            "refused",
            TlsFault::ConnectionRefused,
            "transient",
            "Connection refused",
            0,
        ),
        ("plain", TlsFault::PlainText, "transient", "", 0),
        (
            "untrusted",
            TlsFault::UntrustedCertificate,
            "transient",
            "certificate",
            0,
        ),
        (
            "slow",
            slow_response,
            "ambiguous",
            "has not responded yet",
            0,
        ),
    ];
    let mut installed = Vec::new();
    for (name, ..) in cases {
        installed.push(up.install(name).await);
    }
    up.restart().await;

    for ((name, fault, kind, cause, replays), id) in cases.into_iter().zip(&installed) {
        proxy.set(fault).await;
        let refresh = up.command(&["installations", "refresh", id]);
        assert!(!refresh.run().await.status.success(), "{name}");
        let line = up
            .program
            .wait_for_line(&["[REFRESH-RETRY]", id, kind], PATIENCE)
            .await;
        assert!(line.contains(cause), "{name}: {line}");

        proxy.set(TlsFault::None).await;
        let refreshed = format!("[REFRESH] {id}");
        until(name, PATIENCE, || async {
            let done = lines(&up.program, &refreshed);
            holds(done.len() == 1, lines(&up.program, id))
        })
        .await;
        let chain = sandbox.chain(name).await;
        let tally = &chain["installations"][0];
        assert!(
            tally["replays_in_grace"].as_u64() >= Some(replays),
            "{name}: {chain}"
        );
        assert_eq!(tally["refresh_tokens_spent"], json!(1), "{name}: {chain}");
        assert_eq!(tally["spent_outside_grace"], json!(0), "{name}: {chain}");
    }
}
