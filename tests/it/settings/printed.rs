//! `evergreen config print`: all settings with their sources, and no secret.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tests::program::Start;
use tests::scratch::Scratch;

/// Planted in every secret.
const MARKER: &str = "hunter2planted";

/// The names of secrets, by the manual.
fn secrets() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/settings.md");
    let page = fs::read_to_string(page).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let secrets = rows.filter(|row| row.contains("| **S** "));
    let names = secrets.filter_map(|row| row.split_once('`'));
    names.map(|(name, _)| name.to_owned()).collect()
}

fn print(args: &[&str]) -> Start {
    Start::evergreen(&[&["config", "print"][..], args].concat())
}

async fn printed(start: Start) -> (String, String) {
    let output = start.run().await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_printed() {
    let secrets = secrets();
    assert!(secrets.len() > 12, "{secrets:?}");
    let scratch = Scratch::new();
    let config = scratch.join("settings.toml");
    // Pasted where a path belongs, into a section, and as a command.
    let text = format!(
        "EVERGREEN_ADMIN_KEY_FILE = \"{MARKER}\"\n\
         EVERGREEN_EVENTS_URL = \"https://hooks.example/{MARKER}\"\n\
         EVERGREEN_ACCESS_KEYS_COMMAND = \"printf {MARKER}\"\n\
         GHL_AUTHORIZE_URL = \"https://user:{MARKER}@ghl.example\"\n\
         [apps.b]\nclient_id = \"b-1\"\nclient_secrets = [\"{MARKER}\"]\nsso_key = \"{MARKER}\"\n\
         [[events]]\nurl = \"https://hooks.example/{MARKER}\"\nsecret = \"{MARKER}\"\n"
    );
    fs::write(&config, text).unwrap();
    for role in ["up", "broker", "gateway"] {
        for output in ["table", "json"] {
            for suffix in ["", "_FILE"] {
                let args = [
                    "--as",
                    role,
                    "--all",
                    "--output",
                    output,
                    "--config",
                    config.as_str(),
                ];
                let start = secrets.iter().fold(print(&args), |start, name| {
                    start.env(&format!("{name}{suffix}"), MARKER)
                });
                let (shown, said) = printed(start).await;
                assert!(
                    shown.contains("GHL_API_URL"),
                    "{role} {output}: {shown}{said}"
                );
                for text in [&shown, &said] {
                    assert!(!text.contains(MARKER), "{role} {output} {suffix}: {text}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_printed_with_their_sources() {
    let scratch = Scratch::new();
    let config = scratch.join("settings.toml");
    let secret = scratch.join("secret");
    fs::write(&secret, "hunter2\n").unwrap();
    fs::write(
        &config,
        "EVERGREEN_MAX_BODY = \"1MB\"\nEVERGREEN_DRAIN = \"1s\"\n",
    )
    .unwrap();
    let start = |args: &[&str]| {
        print(args)
            .args(&["--config", &config])
            .env("EVERGREEN_DRAIN", "2s")
            .env("EVERGREEN_LOCK_URLS", "redis://127.0.0.1:1")
            .env("GHL_CLIENT_ID", "app-1")
            .env("GHL_CLIENT_SECRET_FILE", &secret)
    };
    let (shown, said) = printed(start(&[])).await;
    for line in [
        "GHL_CLIENT_ID = \"app-1\"  # environment".to_owned(),
        format!("GHL_CLIENT_SECRET_FILE = \"{secret}\"  # environment"),
        format!("EVERGREEN_MAX_BODY = \"1MB\"  # {config}"),
        "EVERGREEN_DRAIN = \"2s\"  # environment".to_owned(),
        "# EVERGREEN_LOCK_URLS is set, and not read by this command".to_owned(),
    ] {
        assert!(shown.lines().any(|it| it == line), "{line}: {shown}{said}");
    }
    assert!(!shown.contains("EVERGREEN_MAX_REQUESTS"), "{shown}");
    let (all, _) = printed(start(&["--all"])).await;
    let default = "# EVERGREEN_MAX_REQUESTS = \"2000\"  # default";
    assert!(all.contains(default), "{all}");

    // The output is a settings file with the same settings.
    let copy = scratch.join("copy.toml");
    fs::write(&copy, &shown).unwrap();
    let (again, said) = printed(print(&["--config", &copy])).await;
    let values = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let lines = lines.filter_map(|line| line.split_once("  # "));
        lines.map(|(value, _)| value.to_owned()).collect()
    };
    assert_eq!(values(&again), values(&shown), "{said}");

    let (shown, _) = printed(start(&["--output", "json"])).await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["command"], "up");
    let settings = shown["settings"].as_array().unwrap();
    let of = |name: &str| settings.iter().find(|it| it["name"] == name).unwrap();
    assert_eq!(of("EVERGREEN_MAX_BODY")["source"], "file");
    assert_eq!(of("EVERGREEN_MAX_BODY")["file"], config.as_str());
    assert_eq!(of("EVERGREEN_DRAIN")["group"], "Process and listeners");
    assert_eq!(shown["not_read"][0], "EVERGREEN_LOCK_URLS");
}
