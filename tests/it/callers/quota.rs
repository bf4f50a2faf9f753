//! Keys with a quota of calls per interval.

use std::time::Duration;

use reqwest::Response;
use tests::client::{body, get};
use tests::up::Up;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{PATIENCE, create_key, echo_of, until_status};

/// How long one call of `5/20s` takes to refill. This is longer than a burst on a busy machine.
const A_FIFTH: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn quota_limits_a_key_until_it_refills() {
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let key = create_key(&up, &["--name", "sync", "--quota", "5/20s"]).await;
    let other = create_key(&up, &["--name", "shop"]).await;
    let listed = up.command(&["keys", "list"]).run().await;
    let listed = String::from_utf8(listed.stdout).unwrap();
    let line_of = |name: &str| listed.lines().find(|line| line.contains(name)).unwrap();
    assert!(line_of("sync").contains(" 5/20s "), "{listed}");
    assert!(!line_of("shop").contains('/'), "{listed}");

    let began = Instant::now();
    // Both concurrently, so that the other key is used while this one is over its quota.
    let [of_key, of_other] = [&key, &other].map(|key| {
        let calls = (0..20).map(|_| echo_of(&up, &id).bearer_auth(key).send());
        calls.collect::<JoinSet<_>>()
    });
    let (of_key, of_other) = tokio::join!(of_key.join_all(), of_other.join_all());
    assert_eq!(refused(of_other).len(), 0);
    let refused = refused(of_key);
    assert_eq!(refused.len(), 15);
    for response in refused {
        let after = response.headers()["retry-after"].to_str().unwrap();
        assert!((1..=4).contains(&after.parse::<u32>().unwrap()), "{after}");
        let body = body(response).await;
        assert_eq!(body["limit"], "quota", "{body}");
        assert!(body["message"].to_string().contains("5/20s"), "{body}");
    }
    let (_, metrics) = get(&up.client, &format!("{}/metrics", up.internal)).await;
    let series = r#"evergreen_gateway_limited_total{limit="quota"} 15"#;
    let has_counted = metrics.as_str().unwrap().lines().any(|line| line == series);
    assert!(has_counted, "{metrics}");

    // The gateway reads the key's record again every second, which must not reset the quota.
    until_status(200, PATIENCE, || echo_of(&up, &id).bearer_auth(&key)).await;
    assert!(began.elapsed() >= A_FIFTH, "{:?}", began.elapsed());
}

/// The responses with status 429. All others are 200.
fn refused(responses: Vec<reqwest::Result<Response>>) -> Vec<Response> {
    let responses = responses.into_iter().map(Result::unwrap);
    let (passed, refused): (Vec<_>, Vec<_>) = responses.partition(|it| it.status() == 200);
    assert!(refused.iter().all(|it| it.status() == 429));
    assert_eq!(passed.len() + refused.len(), 20);
    refused
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_quota_creates_no_key() {
    let up = Up::start(&[]).await;
    for quota in ["0/1s", "5", "5/0s", "x/1s"] {
        let create = ["keys", "create", "--name", "sync", "--quota", quota];
        let response = up.command(&create).run().await;
        let message = String::from_utf8(response.stderr).unwrap();
        assert_eq!(response.status.code(), Some(2), "{message}");
        assert!(
            message.contains(quota) && message.contains("such as 100/10s"),
            "{message}"
        );
    }
    let listed = up.command(&["keys", "list"]).run().await;
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(!listed.contains("sync"), "{listed}");
}
