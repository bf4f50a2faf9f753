//! Imports that are killed, and run again.

use tests::fleet::{Fleet, FleetConfig};
use tests::wait::{holds, until};

use super::*;

/// So many that an import is killed before its end.
const ROWS: usize = 10_000;
/// For one import, on a busy machine.
const IMPORTING: Duration = Duration::from_secs(300);

/// Waits until rows are imported.
async fn until_some_are_imported(client: &reqwest::Client, internal: &str) {
    until("the first rows", PATIENCE, || async {
        let (_, page) = get(client, &format!("{internal}/v1/installations?limit=1")).await;
        let is_there = page["installations"][0].is_object();
        holds(is_there, page)
    })
    .await;
}

/// Expects one installation of each row, each imported once.
async fn expect_all_imported(client: &reqwest::Client, internal: &str, count: usize) {
    let all = listed(client, internal).await;
    assert_eq!(all.len(), count);
    for one in all {
        assert_eq!(one["generation"], "1", "{one}");
        assert_eq!(one["tokenStatus"], "valid", "{one}");
    }
}

async fn import_is_repeated_after_its_end(command: impl Fn(&[&str]) -> Start, internal: &str) {
    let client = client::new();
    let file = File::new(&lines(&minted_rows(ROWS)));
    let path = file.path();
    let args = ["installations", "import", &path];
    let killed = command(&args).spawn();
    until_some_are_imported(&client, internal).await;
    killed.kill().await;
    let before = listed(&client, internal).await.len();
    assert!(before < ROWS, "it was killed too late");
    let output = command(&args).run_within(IMPORTING).await;
    let said = printed(&output);
    let unchanged = said
        .lines()
        .filter(|line| line.contains(": unchanged"))
        .count();
    // The broker has finished the request that it had.
    assert!(
        unchanged >= before && before > 0,
        "{before}: {}",
        summary(&output)
    );
    expect_all_imported(&client, internal, ROWS).await;
    let again = command(&args).run_within(IMPORTING).await;
    assert_eq!(
        summary(&again),
        format!("0 imported, {ROWS} unchanged, 0 refused")
    );
    expect_all_imported(&client, internal, ROWS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_import_is_finished_by_the_next_one_over_a_file() {
    let up = Up::start(&[]).await;
    import_is_repeated_after_its_end(|args| up.command(args), &up.internal).await;
    expect_each_spent_once(&up.sandbox, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_import_is_finished_by_the_next_one_over_redis() {
    let fleet = Fleet::start(&FleetConfig {
        brokers: 1,
        lock_nodes: 1,
        sandbox: &[],
        settings: &[],
    })
    .await;
    let internal = fleet.brokers[0].internal.clone();
    let command = |args: &[&str]| {
        Start::evergreen(args)
            .env("EVERGREEN_ADMIN_URL", &internal)
            .env("EVERGREEN_ADMIN_KEY", client::KEY)
    };
    import_is_repeated_after_its_end(command, &internal).await;
    let url = format!("{}/ghl/contacts/?locationId=loc00007", fleet.haproxy.url);
    let (status, body) = get(&fleet.client, &url).await;
    assert_eq!(status, 200, "{body}");

    // The export has what the import took.
    let scratch = Scratch::new();
    let out = scratch.join("export");
    let export = ["installations", "export", "--with-tokens", "--out", &out];
    let output = command(&export).run_within(IMPORTING).await;
    assert_eq!(
        printed(&output),
        format!("{ROWS} installations are in {out}\n")
    );
    let exported = fs::read_to_string(&out).unwrap();
    assert_eq!(exported.lines().count(), ROWS);
    let output = command(&["installations", "import", &out, "--dry-run"])
        .run_within(IMPORTING)
        .await;
    assert_eq!(
        summary(&output),
        format!("0 would be imported, {ROWS} unchanged, 0 refused")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn import_goes_on_after_its_broker_was_killed() {
    let mut up = Up::start(&[]).await;
    let file = File::new(&lines(&minted_rows(ROWS)));
    let mut importing = command(&up, &["import", &file.path()]).spawn();
    until_some_are_imported(&up.client, &up.internal).await;
    up.program.signal(9);
    assert!(!importing.has_ended(), "the broker was killed too late");
    up.kill_and_start().await;
    let (code, log) = importing.wait_for_exit(IMPORTING).await;
    assert_eq!(code, Some(0), "{:?}", log.last());
    expect_all_imported(&up.client, &up.internal, ROWS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_verification_goes_on_without_a_second_refresh() {
    const COUNT: u64 = 60;
    let up = Up::start(&[]).await;
    let file = File::new(&lines(&minted_rows(60)));
    let path = file.path();
    let verify = |rate| command(&up, &["import", &path, "--verify", "--verify-rate", rate]);
    let killed = verify("10").spawn();
    until("the first refreshes", PATIENCE, || async {
        let ledger = up.sandbox.ledger().await;
        let refreshed = ledger["token_calls"]["refreshed"].as_u64().unwrap();
        holds(refreshed >= 5, refreshed)
    })
    .await;
    killed.kill().await;
    let output = verify("1000").run_within(PATIENCE).await;
    let said = printed(&output);
    let (_, verified) = said.trim_end().rsplit_once('\n').unwrap();
    let verified: u64 = verified.split(' ').next().unwrap().parse().unwrap();
    assert!((1..COUNT).contains(&verified), "{verified} were left");
    expect_each_spent_once(&up.sandbox, COUNT).await;
    let output = verify("1000").run_within(PATIENCE).await;
    assert_eq!(summary(&output), "0 verified, 0 not verified");
    expect_each_spent_once(&up.sandbox, COUNT).await;
}
