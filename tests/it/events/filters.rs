//! Which endpoint gets what, also after SIGHUP.

use super::*;

const APPS: (&str, &str) = ("APPS", "second-a:secret-a");
const STAGING: &str = "[apps.staging]\nclient_id = \"second-a\"\nclient_secrets = [\"secret-a\"]\n";
const HANGUP: i32 = 1;

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_gets_only_its_types_and_apps() {
    let ends = Receiver::start().await;
    let of_staging = Receiver::start().await;
    let everything = Receiver::start().await;
    let settings = Settings::new(&[
        STAGING.to_owned(),
        ends.section("events", "ends", "types = [\"installation.uninstalled\"]"),
        of_staging.section(
            "events",
            "staging",
            "types = [\"installation.*\"]\napps = [\"staging\"]",
        ),
        everything.section("events", "everything", ""),
    ]);
    let sandbox = Sandbox::start(&[APPS]).await;
    let up = Up::start(&[]).await;
    let up = up.with("EVERGREEN_CONFIG", settings.path());
    let up = up.against(&sandbox).await;
    up.install("locA").await;
    client::install_app(&up.client, &up.public, "staging", "locB").await;
    for (location, app) in [("locA", "default"), ("locB", "staging")] {
        let url = format!(
            "{}/v1/installations/{location}/revoke?app={app}",
            up.internal
        );
        assert_eq!(send(up.client.post(url)).await.0, 200);
    }
    let both = ["installation.connected", "installation.uninstalled"];
    let (a, b) = (["locA".to_owned()], ["locB".to_owned()]);
    let each = [a[0].clone(), b[0].clone()];
    until_changes(&everything, &each, &both).await;
    until_changes(&ends, &each, &both[1..]).await;
    until_changes(&of_staging, &b, &both).await;
    assert_eq!(kinds(&of_staging.taken(), "locA"), [""; 0]);
    let ended = ends.event(both[1], "locB", PATIENCE).await;
    let link = ended["installation"]["reconnectLink"].as_str().unwrap();
    assert!(link.ends_with("/oauth/install?app=staging"), "{link}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hangup_adds_moves_and_removes_endpoints() {
    let (first, second, moved) = (
        Receiver::start().await,
        Receiver::start().await,
        Receiver::start().await,
    );
    let settings = Settings::new(&[first.section("events", "first", "")]);
    let up = Up::start(&[("EVERGREEN_CONFIG", &settings.path())]).await;
    let hang_up = async |endpoints: &str| {
        up.program.signal(HANGUP);
        let words = ["were read again", endpoints];
        up.program.wait_for_line(&words, PATIENCE).await;
    };
    let connected = "installation.connected";
    up.install("locA").await;
    first.event(connected, "locA", PATIENCE).await;

    settings.write(&[
        first.section("events", "first", ""),
        second.section("events", "second", ""),
    ]);
    hang_up("endpoints=2").await;
    up.install("locB").await;
    first.event(connected, "locB", PATIENCE).await;
    second.event(connected, "locB", PATIENCE).await;
    assert_eq!(kinds(&second.taken(), "locA"), [""; 0]);

    settings.write(&[moved.section("events", "second", "")]);
    hang_up("endpoints=1").await;
    up.install("locC").await;
    moved.event(connected, "locC", PATIENCE).await;
    for receiver in [&first, &second] {
        assert_eq!(kinds(&receiver.taken(), "locC"), [""; 0]);
    }

    settings.write(&[moved.section("events", "second", "types = [\"nothing.like_this\"]")]);
    up.program.signal(HANGUP);
    let words = ["the settings have mistakes", "installation.connected"];
    up.program.wait_for_line(&words, PATIENCE).await;
    up.install("locD").await;
    moved.event(connected, "locD", PATIENCE).await;
}
