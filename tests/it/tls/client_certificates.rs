//! Listeners that need client certificates.

use serde_json::Value;
use tests::certificates::Authority;
use tests::client::get;
use tests::wait::{holds, until};

use super::broker::{Site, expect_service};
use super::{PATIENCE, Served, client};

#[tokio::test(flavor = "multi_thread")]
async fn own_processes_need_a_certificate_and_the_public_does_not() {
    let site = Site::start().await;
    let authority = Authority::new("own");
    let (clients, strangers) = (Authority::new("clients"), Authority::new("strangers"));
    let start = site.broker().env("EVERGREEN_TLS_CLIENT_CA", clients.file());
    let broker = Served::start(start, &authority.issue("broker", 1)).await;
    let ours = clients.issue("ours", 2);
    let theirs = strangers.issue("theirs", 3);
    let with = client(&authority, Some(&ours));
    let without = client(&authority, None);
    let with_another = client(&authority, Some(&theirs));

    // A probe of Kubernetes has no certificate.
    broker.wait_until_ready(&without).await;
    for (path, expected) in [("/livez", 200), ("/metrics", 403), ("/v1/keys", 403)] {
        let url = format!("{}{path}", broker.internal);
        let (seen, answer) = get(&without, &url).await;
        assert_eq!(seen, expected, "{path} {answer}");
        if expected == 403 {
            assert_eq!(answer["code"], "client_certificate_required", "{answer}");
        }
        assert_eq!(get(&with, &url).await.0, 200, "{path}");
        let refused = with_another.get(&url).send().await;
        assert!(refused.is_err(), "{path}: {refused:?}");
    }
    // The broker's public listener is for gateways alone.
    let consent = format!("{}/oauth/install", broker.public);
    assert_eq!(get(&with, &consent).await.0, 303);
    for stranger in [&without, &with_another] {
        let refused = stranger.get(&consent).send().await;
        assert!(refused.is_err(), "{refused:?}");
    }

    let start = site
        .gateway(&broker)
        .env("EVERGREEN_CA_FILE", authority.file())
        .env("EVERGREEN_TLS_CLIENT_CA", clients.file())
        .env("EVERGREEN_CLIENT_CERT", &ours.certificate)
        .env("EVERGREEN_CLIENT_KEY", &ours.key);
    let gateway = Served::start(start, &authority.issue("gateway", 4)).await;
    expect_service(&authority, &gateway, &broker, Some(&ours)).await;
    // Customers and GHL have no certificate.
    assert_eq!(
        get(&without, &format!("{}/health", gateway.public)).await.0,
        200
    );
    let metrics = format!("{}/metrics", gateway.internal);
    assert_eq!(get(&without, &metrics).await.0, 403);
    // A key is still needed.
    let keyless = authority
        .client()
        .identity(ours.identity())
        .build()
        .unwrap();
    let (seen, _) = get(&keyless, &format!("{}/v1/keys", broker.internal)).await;
    assert_eq!(seen, 401);

    let start = site
        .gateway(&broker)
        .env("EVERGREEN_CA_FILE", authority.file());
    let gateway = Served::start(start, &authority.issue("without", 5)).await;
    let words = ["TLS fails", "The broker", "EVERGREEN_CLIENT_CERT"];
    gateway.program.wait_for_line(&words, PATIENCE).await;
}

/// The certificate that a gateway shows, and the CAs that a broker takes, change while both run.
#[tokio::test(flavor = "multi_thread")]
async fn client_certificate_and_client_cas_are_renewed() {
    let site = Site::start().await;
    let authority = Authority::new("own");
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let trusted = tests::scratch::Scratch::new();
    let file = trusted.join("clients.pem");
    std::fs::copy(old.file(), &file).unwrap();
    let start = site.broker().env("EVERGREEN_TLS_CLIENT_CA", &file);
    let mut broker = Served::start(start, &authority.issue("broker", 1)).await;
    broker.wait_until_ready(&client(&authority, None)).await;
    let shown = old.issue("gateway", 2);
    let start = site
        .gateway(&broker)
        .env("EVERGREEN_CA_FILE", authority.file())
        .env("EVERGREEN_CLIENT_CERT", &shown.certificate)
        .env("EVERGREEN_CLIENT_KEY", &shown.key);
    let gateway = Served::start(start, &authority.issue("tls", 3)).await;
    let caller = client(&authority, None);
    gateway.wait_until_ready(&caller).await;
    let consent = format!("{}/oauth/install", gateway.public);
    assert_eq!(get(&caller, &consent).await.0, 303);

    let issued = new.issue("next", 4);
    let keys = format!("{}/v1/keys", broker.internal);
    let renewed = client(&authority, Some(&issued));
    assert!(renewed.get(&keys).send().await.is_err());
    std::fs::copy(new.file(), &file).unwrap();
    until("the new CA", PATIENCE, || async {
        let seen = renewed
            .get(&keys)
            .send()
            .await
            .map(|it| it.status().as_u16());
        holds(matches!(seen, Ok(200)), seen)
    })
    .await;
    new.issue_into(&shown, 5, 4000);
    gateway
        .program
        .wait_for_line(
            &["a new certificate is used", "EVERGREEN_CLIENT_CERT"],
            PATIENCE,
        )
        .await;
    // Connections that were open would go on.
    broker.restart().await;
    broker.wait_until_ready(&caller).await;
    until("consents with the new certificate", PATIENCE, || async {
        let (status, answer): (u16, Value) = get(&caller, &consent).await;
        holds(status == 303, (status, answer))
    })
    .await;
}
