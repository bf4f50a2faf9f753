//! The sample product `examples/express` over `evergreen up`, in a real Chromium.

use std::time::Duration;

use tests::packages;
use tests::port;
use tests::program::{Start, wait_for_port};
use tests::receiver::SECRET;
use tests::scratch::Scratch;
use tests::up::Up;

/// A refused grant ends after a minute. The rest is for a busy machine.
const PATIENCE: Duration = Duration::from_secs(420);

/// A copy of a directory of Node.js code, and the packages that its lock file names.
async fn installed(directory: &str) -> Scratch {
    let scratch = packages::copy(directory);
    packages::install_node_packages(&scratch).await;
    scratch
}

#[tokio::test(flavor = "multi_thread")]
async fn customer_of_the_sample_product_connects_and_reconnects() {
    let product = installed("examples/express").await;
    let browser = installed("tests/browser").await;
    let port = port::free();
    let url = format!("http://127.0.0.1:{port}");
    let up = Up::start(&[
        ("EVERGREEN_EVENTS_URL", &format!("{url}/events")),
        ("EVERGREEN_EVENTS_SECRET", SECRET),
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
        .env("EVENTS_SECRET", SECRET)
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
