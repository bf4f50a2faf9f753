//! The sample product `examples/express` over `evergreen up`, in a real Chromium.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tests::port;
use tests::program::{Start, wait_for_port};
use tests::scratch::Scratch;
use tests::up::Up;

use super::sdk::run_installer;

/// A refused grant ends after a minute.
const PATIENCE: Duration = Duration::from_secs(240);

/// Copies a directory of Node.js code, and installs what its lock file names.
async fn installed(directory: &str) -> Scratch {
    let scratch = Scratch::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(directory);
    copy_files(&from, scratch.path());
    let npm = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    let install = Start::new("npm").args(&npm);
    run_installer(install.args(&["--prefix", &scratch.join("")])).await;
    scratch
}

fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_file() {
            fs::copy(&path, &target).unwrap();
        } else if entry.file_name() != "node_modules" {
            fs::create_dir(&target).unwrap();
            copy_files(&path, &target);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn customer_of_the_sample_product_connects_and_reconnects() {
    let product = installed("examples/express").await;
    let browser = installed("tests/browser").await;
    let secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let port = port::free();
    let url = format!("http://127.0.0.1:{port}");
    let up = Up::start(&[
        ("EVERGREEN_EVENTS_URL", &format!("{url}/events")),
        ("EVERGREEN_EVENTS_SECRET", secret),
        ("EVERGREEN_EVENTS_ALLOW_PRIVATE", "true"),
    ])
    .await;
    let create = ["keys", "create", "--name", "lantern"];
    let scopes = ["--scope", "proxy", "--scope", "connect"];
    let create = up.command(&create).args(&scopes).run().await;
    let key = String::from_utf8(create.stdout).unwrap();
    let _server = Start::new("node")
        .args(&[product.join("server.js")])
        .env("EVERGREEN_KEY", key.trim_end())
        .env("EVERGREEN_URL", &up.internal)
        .env("GATEWAY_URL", &up.public)
        .env("EVENTS_SECRET", secret)
        .env("DATA_FILE", product.join("customers.json"))
        .env("PORT", port)
        .spawn();
    wait_for_port(port).await;
    // Chromium keeps a profile in its user's home.
    let walk = Start::new("node")
        .args(&[browser.join("express.mjs"), url, up.sandbox.url.clone()])
        .args(&["sandboxHarborDental1", &browser.join("screenshots")])
        .env("HOME", browser.join(""));
    let walked = walk.run_within(PATIENCE).await;
    assert!(
        walked.status.success(),
        "{walked:?}\n{:#?}",
        up.program.log()
    );
}
