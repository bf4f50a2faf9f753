//! Several brokers over one store, which know different apps.

use tests::fleet::{Fleet, FleetConfig};

use super::*;

const SANDBOX: [(&str, &str); 2] = [SANDBOX_APPS, ("TOKEN_LIFETIME", "8s")];

fn config<'a>(brokers: usize, settings: &'a [(&'a str, &'a str)]) -> FleetConfig<'a> {
    FleetConfig {
        brokers,
        lock_nodes: 3,
        sandbox: &SANDBOX,
        settings,
    }
}

async fn generation(fleet: &Fleet, id: &str) -> u64 {
    let url = format!("{}/v1/installations/{id}", fleet.brokers[0].internal);
    let (_, shown) = get(&fleet.client, &url).await;
    shown["generation"].as_str().unwrap_or("0").parse().unwrap()
}

async fn until_generation(fleet: &Fleet, ids: &[String], least: u64) {
    for id in ids {
        until(&format!("{id} to be refreshed"), PATIENCE, || async {
            let generation = generation(fleet, id).await;
            holds(generation >= least, generation)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_that_knows_one_app_leaves_the_other_one_to_others() {
    let settings = Settings::new(STAGING);
    let path = settings.path();
    let mut fleet = Fleet::start(&config(3, &[("EVERGREEN_CONFIG", &path)])).await;
    fleet.brokers[2].kill().await;
    fleet.brokers[2].unset("EVERGREEN_CONFIG");
    fleet.brokers[2].launch().await;
    let mut ids = Vec::new();
    for number in 0..6 {
        let location = format!("loc{number}");
        ids.push(client::install(&fleet.client, &fleet.haproxy.url, &location).await);
        // The third gateway passes consents on to the broker that does not know the app.
        let gateway = format!("http://{}", fleet.gateways[number % 2].address);
        ids.push(client::install_app(&fleet.client, &gateway, "staging", &location).await);
    }
    until_generation(&fleet, &ids, 4).await;
    fleet.expect_no_token_lost().await;
    expect_right_pairs(&fleet.sandbox).await;
    let of_third = format!(
        "{}/v1/installations?status=unclaimed",
        fleet.brokers[2].internal
    );
    let (_, unclaimed) = get(&fleet.client, &of_third).await;
    assert_eq!(
        unclaimed["installations"].as_array().map(Vec::len),
        Some(6),
        "{unclaimed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn second_deployment_with_the_name_of_another_app_does_nothing() {
    let mut fleet = Fleet::start(&config(2, &[])).await;
    let ids = fleet.install(4).await;
    fleet.brokers[1].kill().await;
    fleet.brokers[1].set([
        ("GHL_CLIENT_ID", "second-a".to_owned()),
        ("GHL_CLIENT_SECRET", "secret-a".to_owned()),
    ]);
    fleet.brokers[1].spawn();
    let broker = fleet.brokers[1].program.as_ref().unwrap();
    broker
        .wait_for_line(&["the app `default` is sandbox at GHL"], PATIENCE)
        .await;
    let (status, body) = get(
        &fleet.client,
        &format!("{}/readyz", fleet.brokers[1].internal),
    )
    .await;
    assert_eq!(status, 503, "{body}");
    let address = format!("http://{}", fleet.brokers[1].address);
    let consent = client::try_install(&fleet.client, &address, "loc9");
    assert!(consent.await.is_err(), "no code is spent for it");
    until_generation(&fleet, &ids, 4).await;
    expect_right_pairs(&fleet.sandbox).await;

    // With a name of its own it works beside the first one.
    let settings = Settings::new(STAGING);
    fleet.brokers[1].kill().await;
    for key in ["GHL_CLIENT_ID", "GHL_CLIENT_SECRET"] {
        fleet.brokers[1].unset(key);
    }
    fleet.brokers[1].set([("EVERGREEN_CONFIG", settings.path())]);
    fleet.brokers[1].launch().await;
    let gateway = format!("http://{}", fleet.gateways[1].address);
    let staging = client::install_app(&fleet.client, &gateway, "staging", "loc000").await;
    until_generation(&fleet, &[staging], 3).await;
    until_generation(&fleet, &ids, 6).await;
    expect_right_pairs(&fleet.sandbox).await;
}
