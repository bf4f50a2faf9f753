//! Values that were copied or quoted wrongly stop a start.

use std::path::Path;

use tests::program::Start;
use tests::sandbox::Sandbox;
use tests::scratch::Scratch;
use tests::up::Up;

use super::{PATIENCE, config_errors, expect_each, keys, occupied_addresses, up_on, with};

const SECRET: &str = "hunter2";

#[tokio::test(flavor = "multi_thread")]
async fn quoted_values_and_placeholders_stop_a_start() {
    let scratch = Scratch::new();
    let (_held, addresses) = occupied_addresses();
    let quoted_file = scratch.join("secret");
    std::fs::write(&quoted_file, format!("\"{SECRET}\"\n")).unwrap();
    let wrong = [
        ("EVERGREEN_LOG", "\"info\""),
        ("EVERGREEN_RETURN_URLS", "<your URLs>"),
        ("GHL_CLIENT_ID", "your-client-id"),
        ("GHL_SSO_KEY", "'hunter2'"),
    ];
    let up = with(up_on(&scratch, addresses.clone()), &wrong);
    let up = up.env("GHL_CLIENT_SECRET_FILE", &quoted_file);
    let message = config_errors(up).await;
    // A value in angle brackets is no URL, too.
    let line = |key: &str, word: &str| {
        let found = message
            .lines()
            .any(|line| line.starts_with(key) && line.contains(word));
        assert!(found, "{key} {word}: {message}");
    };
    line("EVERGREEN_LOG ", "is in quotes");
    line("EVERGREEN_RETURN_URLS ", "placeholder");
    line("GHL_CLIENT_ID ", "placeholder");
    line("GHL_CLIENT_SECRET ", "is in quotes");
    line("GHL_SSO_KEY ", "is in quotes");
    assert!(!message.contains(SECRET), "{message}");
    assert!(!Path::new(&scratch.join("data")).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn redirect_uri_that_ghl_or_evergreen_refuses_stops_a_start() {
    let scratch = Scratch::new();
    let (_held, [public, internal, sandbox]) = occupied_addresses();
    let start = |settings: &[(&str, &str)]| {
        let addresses = [public.clone(), internal.clone(), sandbox.clone()];
        with(up_on(&scratch, addresses), settings)
            .env("GHL_CLIENT_ID", "65f0c1d2e3a4b5c6d7e8f901-abcd")
            .env("GHL_CLIENT_SECRET", "x")
    };
    for (key, value, expected) in [
        (
            "GHL_REDIRECT_URI",
            "http://tokens.example.com/oauth/callback",
            "use https://",
        ),
        (
            "GHL_REDIRECT_URI",
            "https://tokens.example.com/",
            "does not serve",
        ),
        (
            "GHL_REDIRECT_URI",
            "https://tokens.example.com/oauth/callback/b",
            "another app",
        ),
        (
            "GHL_SCOPES",
            "contacts.readonly,contacts.write",
            "GHL wants spaces",
        ),
    ] {
        let wrong = [(key, value)];
        let message = config_errors(start(&wrong)).await;
        expect_each(&message, &keys(&wrong));
        assert!(message.contains(expected), "{message}");
    }
    // These are right: the program fails only at binding its addresses.
    for uri in [
        "https://tokens.example.com/oauth/callback",
        "https://tokens.example.com/api/oauth/callback",
        "https://tokens.example.com/oauth/callback/default",
        "http://localhost:8080/oauth/callback",
    ] {
        let output = start(&[("GHL_REDIRECT_URI", uri)]).run().await;
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(69), "{uri}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_id_of_another_form_is_warned_about_over_the_real_ghl() {
    let scratch = Scratch::new();
    let addresses = super::free_addresses();
    let up = up_on(&scratch, addresses)
        .env("GHL_CLIENT_ID", "app-1")
        .env("GHL_CLIENT_SECRET", "x")
        .spawn();
    let warnings = ["WARN", "GHL_CLIENT_ID does not look like"];
    up.wait_for_line(&warnings, PATIENCE).await;
    up.wait_for_line(
        &["WARN", "GHL_REDIRECT_URI leads to this machine"],
        PATIENCE,
    )
    .await;
    up.wait_for_line(&["It uses the real GHL"], PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn banner_has_the_public_url_and_the_ghl_that_is_used() {
    let sandbox = Sandbox::start(&[]).await;
    let redirect = "https://tokens.example.com/oauth/callback";
    let up = Up::start(&[]).await;
    let up = up
        .with("GHL_REDIRECT_URI", redirect)
        .against(&sandbox)
        .await;
    let words = [format!("GHL_API_URL names {}", sandbox.url)];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    up.program.wait_for_line(&words, PATIENCE).await;
    let open = ["open https://tokens.example.com/oauth/install"];
    up.program.wait_for_line(&open, PATIENCE).await;
    up.program
        .wait_for_line(&["listens at", &up.public], PATIENCE)
        .await;
}

/// A command that ends before anything else: settings are checked first.
#[tokio::test(flavor = "multi_thread")]
async fn quotes_of_a_command_line_are_no_mistake() {
    let broker = Start::evergreen(&["broker"]).env(
        "EVERGREEN_ACCESS_KEYS_COMMAND",
        "\"printf\" \"k1:nonsense\"",
    );
    let message = config_errors(broker).await;
    assert!(
        message.contains("EVERGREEN_ACCESS_KEYS is not a key ring"),
        "{message}"
    );
    assert!(!message.contains("is in quotes"), "{message}");
}
