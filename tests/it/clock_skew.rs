//! Wrong clocks, clocks that jump, and suspended hosts. No token is refreshed early, and no expired token is sent.

use std::time::Duration;

use serde_json::Value;
use tests::fleet::{Fleet, FleetConfig, Member};
use tests::load::steady_load;
use tests::program::Program;
use tests::sandbox::Sandbox;
use tests::up::Up;
use tests::wait::{holds, until};
use tests::wall_clock::WallClock;
use tokio::time::{Instant, sleep_until};

const PATIENCE: Duration = Duration::from_secs(90);
const LIFETIME: Duration = Duration::from_secs(24);
/// A refresh is due a quarter of the lifetime before the expiry, minus a jitter of up to a quarter of that.
const SOONEST: Duration = Duration::from_secs(12);

/// Every token but the first was issued when it was due: not earlier, and before the previous one expired.
async fn expect_schedule(sandbox: &Sandbox, locations: usize) {
    for number in 0..locations {
        let chain = sandbox.chain(&format!("loc{number:03}")).await;
        let tokens = chain["installations"][0]["tokens"].as_array().unwrap();
        let issued = |token: &Value| Duration::from_millis(token["issued_ms"].as_u64().unwrap());
        for pair in tokens.windows(2) {
            let apart = issued(&pair[1]) - issued(&pair[0]);
            assert!(
                (SOONEST..LIFETIME).contains(&apart),
                "refreshed after {apart:?}: {chain:#}"
            );
        }
        assert!(tokens.len() >= 3, "refreshes continued: {chain:#}");
    }
    let ledger = sandbox.ledger().await;
    assert_eq!(ledger["calls_with_expired_token"], 0, "{ledger}");
    assert_eq!(ledger["spent_outside_grace"], 0, "{ledger}");
}

/// Steps the clock, and waits until the log shows the new time.
async fn jump_and_wait_for_log(program: &Program, clock: &WallClock, offset: &str) {
    let seen = program.log().len();
    clock.set(offset);
    let day = |line: &str| humantime::parse_rfc3339(line.split(' ').next()?).ok();
    let log = || program.log();
    let before = log()[..seen].iter().rev().find_map(|line| day(line));
    until("the jump in the log", PATIENCE, || async {
        // The last line, since one more may have been written with the old clock.
        let after = log()[seen..].iter().rev().find_map(|line| day(line));
        let (Some(before), Some(after)) = (before, after) else {
            return Err("no new line".to_owned());
        };
        let ahead = after
            .duration_since(before)
            .unwrap_or_else(|e| e.duration());
        holds(ahead > Duration::from_secs(30 * 60), ahead)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refreshes_stay_on_schedule_with_wrong_and_jumping_clocks() {
    let lifetime = format!("{}s", LIFETIME.as_secs());
    let mut fleet = Fleet::start(&FleetConfig {
        brokers: 2,
        lock_nodes: 3,
        sandbox: &[("TOKEN_LIFETIME", &lifetime)],
        settings: &[],
    })
    .await;
    // Offsets of minutes from the store's clock, in both directions.
    let clocks = ["+7m", "-7m", "-11m", "+11m"].map(WallClock::wrong_by);
    let members = fleet.brokers.iter_mut().chain(&mut fleet.gateways);
    for (member, clock) in members.zip(&clocks) {
        member.set(clock.settings());
        member.kill().await;
        member.launch().await;
    }
    let installations = fleet.install(10).await;
    let (client, public) = (fleet.client.clone(), fleet.haproxy.url.clone());
    let started = Instant::now();
    let calls = tokio::spawn(async move {
        let length = Duration::from_secs(80);
        steady_load(&client, &public, &installations, 40, length).await
    });
    for (at, offsets) in [
        (25, ["+1h", "-1h", "+1h", "-1h"]),
        (50, ["-1h", "+1h", "-1h", "+1h"]),
    ] {
        sleep_until(started + Duration::from_secs(at)).await;
        for (clock, offset) in clocks.iter().zip(offsets) {
            clock.set(offset);
        }
    }
    calls.await.unwrap().expect_success();
    expect_schedule(&fleet.sandbox, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn up_stays_on_schedule_when_its_clock_jumps() {
    let clock = WallClock::wrong_by("-3m");
    let lifetime = format!("{}s", LIFETIME.as_secs());
    let settings = clock.settings();
    let settings = settings
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .chain([("EVERGREEN_SANDBOX_TOKEN_LIFETIME", lifetime.as_str())]);
    let up = Up::start(&settings.collect::<Vec<_>>()).await;
    let mut installations = Vec::new();
    for number in 0..5 {
        installations.push(up.install(&format!("loc{number:03}")).await);
    }
    let (client, public) = (up.client.clone(), up.public.clone());
    let calls = tokio::spawn(async move {
        let length = Duration::from_secs(70);
        steady_load(&client, &public, &installations, 20, length).await
    });
    for offset in ["+1h", "-1h"] {
        up.program.wait_for_line(&["[REFRESH] "], PATIENCE).await;
        jump_and_wait_for_log(&up.program, &clock, offset).await;
    }
    calls.await.unwrap().expect_success();
    expect_schedule(&up.sandbox, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_from_a_fast_clock_are_refreshed_after_restart() {
    let clock = WallClock::wrong_by("+6h");
    let lifetime = format!("{}s", LIFETIME.as_secs());
    let sandbox = Sandbox::start(&[("TOKEN_LIFETIME", &lifetime)]).await;
    let settings = clock.settings();
    let settings = settings.iter().map(|(key, value)| (*key, value.as_str()));
    let up = Up::start(&settings.collect::<Vec<_>>()).await;
    let mut up = up.against(&sandbox).await;
    let mut installations = Vec::new();
    for number in 0..3 {
        installations.push(up.install(&format!("loc{number:03}")).await);
    }
    // The sandbox's clock was right from the start.
    clock.set("+0");
    up.restart().await;
    let words = ["records lie in the future", "records=3"];
    up.program.wait_for_line(&words, PATIENCE).await;
    for id in &installations {
        up.program
            .wait_for_line(&["[REFRESH] ", id], PATIENCE)
            .await;
    }
    let length = Duration::from_secs(30);
    steady_load(&up.client, &up.public, &installations, 20, length)
        .await
        .expect_success();
    let ledger = sandbox.ledger().await;
    assert_eq!(ledger["calls_with_expired_token"], 0, "{ledger}");
    assert_eq!(ledger["spent_outside_grace"], 0, "{ledger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn suspended_host_resumes_while_others_keep_refreshing() {
    suspend_first_hosts(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_hosts_suspended_at_once_recover() {
    suspend_first_hosts(1).await;
}

/// Stops the first broker and the first gateway for longer than any lease or token lives, and continues them with
/// calls waiting.
async fn suspend_first_hosts(brokers: usize) {
    let fleet = Fleet::start(&FleetConfig {
        brokers,
        lock_nodes: 3,
        sandbox: &[("TOKEN_LIFETIME", "16s")],
        settings: &[("EVERGREEN_TOKEN_TIMEOUT", "2s")],
    })
    .await;
    let installations = fleet.install(10).await;
    let suspended_gateway = &fleet.gateways[0];
    let public = format!("http://{}", suspended_gateway.address);
    let call = async |length| steady_load(&fleet.client, &public, &installations, 50, length).await;
    // Fill its token cache.
    call(Duration::from_secs(2)).await.expect_success();
    let suspended: [&Member; 2] = [&fleet.brokers[0], suspended_gateway];
    suspended.iter().for_each(|member| member.signal(STOP));
    let resume_at = Instant::now() + Duration::from_secs(25);
    sleep_until(resume_at).await;
    let before = fleet.sandbox.ledger().await;
    suspended.iter().for_each(|member| member.signal(CONTINUE));
    call(Duration::from_secs(5)).await.expect_success();

    let ledger = fleet.sandbox.ledger().await;
    assert_eq!(ledger["calls_with_expired_token"], 0, "{ledger}");
    assert_eq!(ledger["spent_outside_grace"], 0, "{ledger}");
    let spent = |ledger: &Value| ledger["refresh_tokens_spent"].as_u64().unwrap();
    let refreshed = spent(&ledger) - spent(&before);
    if brokers == 1 {
        assert_eq!(refreshed, 10, "every due token once: {ledger}");
    } else {
        assert!(
            refreshed <= 10,
            "{refreshed} refreshes after resuming: {ledger}"
        );
    }
    assert_eq!(ledger["replays_in_grace"], 0, "{ledger}");
}

const STOP: i32 = 19;
const CONTINUE: i32 = 18;
