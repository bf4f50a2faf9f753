//! Rings that a command prints.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn rings_come_from_the_output_of_a_command() {
    let site = Site::start(&[]).await;
    let keys = Keys::new("kms");
    let file = site.scratch.join("ring");
    std::fs::write(&file, format!("{}\n", keys.access)).unwrap();
    let start = site
        .broker("broker", &keys)
        .env("EVERGREEN_ACCESS_KEYS", "")
        .env("EVERGREEN_ACCESS_KEYS_COMMAND", format!("cat '{file}'"))
        .env("EVERGREEN_REFRESH_KEYS", "")
        .env(
            "EVERGREEN_REFRESH_KEYS_COMMAND",
            format!("sh -c 'echo looking >&2; echo {}'", keys.refresh),
        );
    let broker = Member::start(start).await;
    let id = site.install(&broker, "locA").await;
    // The same rings as those of a process that has them in its environment.
    let gateway = Member::start(site.gateway(&keys.access, &broker)).await;
    let (status, token) = site.token(&gateway, &id).await;
    assert_eq!(status, 200, "{token}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_command_is_a_mistake_that_quotes_no_output() {
    let site = Site::start(&[]).await;
    let start = site
        .broker("broker", &Keys::new("a"))
        .env("EVERGREEN_ACCESS_KEYS", "")
        .env(
            "EVERGREEN_ACCESS_KEYS_COMMAND",
            "sh -c 'echo hunter2; echo access denied >&2; exit 7'",
        )
        .env("EVERGREEN_REFRESH_KEYS_COMMAND", "true");
    let output = placed(start).run().await;
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{message}");
    let access = "EVERGREEN_ACCESS_KEYS_COMMAND failed: exit code 7; its standard error begins: access denied";
    let refresh = "EVERGREEN_REFRESH_KEYS_COMMAND is set, and so is EVERGREEN_REFRESH_KEYS or EVERGREEN_REFRESH_KEYS_FILE: keep one";
    for expected in [access, refresh] {
        assert!(message.contains(expected), "{message}");
    }
    assert!(!message.contains("hunter2"), "{message}");
    assert!(!message.contains("is missing"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_refuses_a_command_for_refresh_keys() {
    let start = Start::evergreen(&["gateway"])
        .env("EVERGREEN_REDIS_URL", "redis://127.0.0.1:1")
        .env("EVERGREEN_ACCESS_KEYS", key("a"))
        .env("EVERGREEN_REFRESH_KEYS_COMMAND", "true");
    let output = placed(start).run().await;
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{message}");
    assert!(
        message.contains("must not be given to a gateway"),
        "{message}"
    );
}
