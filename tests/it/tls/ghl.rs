//! GHL behind a CA that the system does not know.

use serde_json::json;
use tests::client::get;
use tests::sandbox::Sandbox;
use tests::tls_fault_proxy::TlsFaultProxy;
use tests::up::Up;

#[tokio::test(flavor = "multi_thread")]
async fn refreshes_and_calls_trust_the_cas_of_ca_file() {
    let sandbox = Sandbox::start(&[]).await;
    let proxy = TlsFaultProxy::of(&sandbox.url).await;
    let up = Up::start(&[]).await.against(&sandbox).await;
    let id = up.install("loc1").await;
    let mut up = up.with("GHL_API_URL", &proxy.url);
    let refresh = up.command(&["installations", "refresh", &id]);
    let call = format!("{}/api/ghl/products?installation_id={id}", up.public);

    up.restart().await;
    assert!(!refresh.run().await.status.success());
    let (status, answer) = get(&up.client, &call).await;
    assert_eq!(
        (status, &answer["code"]),
        (502, &json!("ghl_unreachable")),
        "{answer}"
    );
    let warned = up.program.line(&["TLS fails", "GHL", "EVERGREEN_CA_FILE"]);
    assert!(warned.is_some(), "{:?}", up.program.log());

    let mut up = up.with("EVERGREEN_CA_FILE", TlsFaultProxy::certificate());
    up.restart().await;
    let refreshed = refresh.run().await;
    assert!(refreshed.status.success(), "{refreshed:?}");
    let (status, answer) = get(&up.client, &call).await;
    assert_eq!(status, 200, "{answer}");
}
