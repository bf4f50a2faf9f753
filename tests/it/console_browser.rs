//! The web console of `evergreen up`, in a real Chromium.

use std::time::Duration;

use tests::client::KEY;
use tests::packages;
use tests::program::Start;
use tests::up::Up;

/// A refused grant ends after a minute, and each page is checked in four shapes. The rest is for a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);
const STARTED: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn operator_connects_a_customer_and_mends_the_connection() {
    let browser = packages::copy("tests/browser");
    packages::install_node_packages(&browser).await;
    let up = Up::start(&[]).await;
    let banner = up.program.wait_for_line(&["/console/sign-in/"], STARTED);
    let banner = banner.await;
    let link = banner.split_whitespace().find(|it| it.starts_with("http"));
    let walk = Start::new("node")
        .args(&[browser.join("console.mjs")])
        .args(&[link.unwrap(), &up.sandbox.url, "sandboxHarborDental1"])
        .args(&[browser.join("screenshots")])
        .env("CONSOLE_KEY", KEY)
        // Chromium keeps a profile in its user's home.
        .env("HOME", browser.join(""));
    let walked = walk.run_within(PATIENCE).await;
    assert!(
        walked.status.success(),
        "{walked:?}\n{:#?}",
        up.program.log()
    );
}
