//! The endpoints of events in the settings file.

use tests::program::Start;
use tests::scratch::Scratch;

use super::{config_errors, occupied_addresses, up_on};

/// 24 bytes, as an operator makes them.
const SECRET: &str = "whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyeHl6";

fn with_file(scratch: &Scratch, start: Start, text: &str) -> Start {
    let config = scratch.join("settings.toml");
    std::fs::write(&config, text).unwrap();
    start.args(&["--config", &config])
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_all_endpoints_are_reported_with_their_place() {
    let scratch = Scratch::new();
    let (_held, addresses) = occupied_addresses();
    let text = format!(
        "[[events]]\nname = \"crm\"\nurl = \"https://crm.example/hook\"\nsecrets = [\"{SECRET}\"]\n\
         [[events]]\nurl = \"http://10.0.0.1/hook\"\nsecrets = [\"{SECRET}\", \"hunter2\"]\ncolour = \"red\"\n\
         [[webhooks]]\nname = \"crm\"\nurl = \"https://crm.example/ghl\"\nsecret_file = \"/nowhere/hunter2\"\n"
    );
    let start = with_file(&scratch, up_on(&scratch, addresses), &text);
    let message = config_errors(start).await;
    let lines: Vec<&str> = message.lines().skip(1).collect();
    for expected in [
        "[[events]] number 2: colour is no setting: ",
        "[[events]] number 2: url is http://, and leads beyond this machine: ",
        "[[events]] number 2: url is refused: 10.0.0.1 is no address of the public internet",
        "[[events]] number 2: secrets is wrong: secret 2 does not begin with whsec_",
        "[[webhooks]] number 1: secret is missing: the file that [[webhooks]] number 1: secret_file names ",
    ] {
        let count = lines.iter().filter(|line| line.starts_with(expected));
        assert_eq!(count.count(), 1, "{expected}\n{message}");
    }
    assert_eq!(lines.len(), 5, "{message}");
    assert!(
        !message.contains("hunter2") && !message.contains(SECRET),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_without_a_mistake_are_accepted() {
    let scratch = Scratch::new();
    let (_held, addresses) = occupied_addresses();
    let text = format!(
        "EVERGREEN_EVENTS_URL = \"http://127.0.0.1:9/hook\"\nEVERGREEN_EVENTS_SECRET = \"{SECRET}\"\n\
         [[events]]\nurl = \"https://crm.example/hook\"\nsecrets = \"{SECRET},{SECRET}\"\napps = [\"default\"]\n\
         [[webhooks]]\nname = \"crm\"\nurl = \"https://crm.example/hook\"\nsecret = \"{SECRET}\"\n"
    );
    let refused = with_file(&scratch, up_on(&scratch, addresses.clone()), &text);
    let message = config_errors(refused).await;
    assert!(
        message.contains("EVERGREEN_EVENTS_ALLOW_PRIVATE=true"),
        "{message}"
    );
    let start = with_file(&scratch, up_on(&scratch, addresses), &text);
    let output = start
        .env("EVERGREEN_EVENTS_ALLOW_PRIVATE", "true")
        .run()
        .await;
    // The program fails only at binding its addresses.
    assert_eq!(output.status.code(), Some(69), "{output:?}");
}
