//! Names that are no settings stop a start, except those that others put into the environment.

use tests::scratch::Scratch;
use tests::up::Up;

use super::{
    PATIENCE, config_errors, expect_each, free_addresses, occupied_addresses, up_on, with,
};

#[tokio::test(flavor = "multi_thread")]
async fn misspelt_settings_stop_a_start_and_the_right_ones_are_named() {
    let scratch = Scratch::new();
    let config = scratch.join("settings.toml");
    let text = "EVERGREEN_MAX_BODIES = 1\nOTHER = 2\nHTTPS_PROXY = \"http://127.0.0.1:1\"\n\
                [apps.b]\nclient_id = \"b-1\"\nclient_secret = \"x\"\nscope = \"a.readonly\"\n";
    std::fs::write(&config, text).unwrap();
    let (_held, addresses) = occupied_addresses();
    let up = up_on(&scratch, addresses)
        .args(&["--config", &config])
        .env("EVERGREEN_REFERSH_LEAD", "5m")
        .env("EVERGREEN_LISTEN_FILE", "unused")
        .env("EVERGREEN_ADMIN_KEY_FILE", "unused")
        .env("GHL_CLIENT_SCERET", "hunter2")
        .env("GHL_COMPANY", "of another program");
    let message = config_errors(up).await;
    let wrong = [
        "EVERGREEN_MAX_BODIES",
        "OTHER",
        "HTTPS_PROXY",
        "apps.b.scope",
        "EVERGREEN_REFERSH_LEAD",
        "EVERGREEN_LISTEN_FILE",
        "GHL_CLIENT_SCERET",
    ];
    expect_each(&message, &wrong);
    for meant in [
        "did you mean EVERGREEN_MAX_BODY?",
        "did you mean EVERGREEN_REFRESH_LEAD?",
        "did you mean GHL_CLIENT_SECRET?",
        "did you mean scopes?",
    ] {
        assert!(message.contains(meant), "{meant}: {message}");
    }
    assert!(!message.contains("hunter2"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_that_kubernetes_injects_do_not_stop_a_start() {
    let scratch = Scratch::new();
    let injected = [
        ("EVERGREEN_PORT", "tcp://10.96.0.7:8080"),
        ("EVERGREEN_PORT_8080_TCP", "tcp://10.96.0.7:8080"),
        ("EVERGREEN_PORT_8080_TCP_ADDR", "10.96.0.7"),
        ("EVERGREEN_PORT_8080_TCP_PORT", "8080"),
        ("EVERGREEN_PORT_8080_TCP_PROTO", "tcp"),
        ("EVERGREEN_SERVICE_HOST", "10.96.0.7"),
        ("EVERGREEN_SERVICE_PORT", "8080"),
        ("EVERGREEN_SERVICE_PORT_HTTP", "8080"),
        ("EVERGREEN_GATEWAY_PORT_8080_TCP", "tcp://10.96.0.7:8080"),
        ("EVERGREEN_BROKER_SERVICE_HOST", "10.96.0.8"),
        // Of a client of evergreen in the same container.
        ("EVERGREEN_URL", "http://127.0.0.1:8080"),
        ("EVERGREEN_KEY", "evg_key"),
        ("EVERGREEN_LONG", "1"),
    ];
    let up = with(up_on(&scratch, free_addresses()), &injected)
        .env("GHL_COMPANY", "of another program")
        .spawn();
    up.wait_for_line(&["evergreen is up"], PATIENCE).await;
    up.wait_for_line(&["WARN", "GHL_COMPANY"], PATIENCE).await;
    let log = up.log().join("\n");
    assert!(!log.contains("EVERGREEN_PORT"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_says_that_a_misspelt_setting_does_not_exist() {
    const HANGUP: i32 = 1;
    let scratch = Scratch::new();
    let config = scratch.join("settings.toml");
    std::fs::write(&config, "EVERGREEN_MAX_BODY = \"1MB\"\n").unwrap();
    let up = Up::start(&[("EVERGREEN_CONFIG", &config)]).await;
    // Before that, a hangup ends it.
    up.program
        .wait_for_line(&["evergreen is up"], PATIENCE)
        .await;
    std::fs::write(&config, "EVERGREEN_MAX_BDOY = \"2MB\"\n").unwrap();
    up.program.signal(HANGUP);
    let words = [
        "everything stays as it is",
        "EVERGREEN_MAX_BDOY is no setting: did you mean EVERGREEN_MAX_BODY?",
    ];
    up.program.wait_for_line(&words, PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_commands_warn_about_misspelt_settings() {
    let up = Up::start(&[]).await;
    let listed = up
        .command(&["installations", "list"])
        .env("EVERGREEN_ADMIN_ULR", "x");
    let output = listed.run().await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("did you mean EVERGREEN_ADMIN_URL?"), "{said}");
}
