//! The rotation of both rings by SIGHUP, under load and without a restart.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tests::load::steady_load;
use tests::wait::until;

use super::*;

const HANGUP: i32 = 1;
const ROTATION: Duration = Duration::from_secs(180);

/// A broker and a gateway that read their rings from files.
struct Rotating {
    site: Site,
    broker: Member,
    gateway: Member,
}

impl Rotating {
    async fn start(keys: &Keys) -> Self {
        let site = Site::start(&[]).await;
        write(&site, keys);
        let broker = site
            .broker("one", keys)
            .env("EVERGREEN_ACCESS_KEYS", "")
            .env("EVERGREEN_REFRESH_KEYS", "")
            .env("EVERGREEN_ACCESS_KEYS_FILE", site.scratch.join("access"))
            .env("EVERGREEN_REFRESH_KEYS_FILE", site.scratch.join("refresh"))
            // The journal is sealed anew after a few times this.
            .env("EVERGREEN_TOKEN_TIMEOUT", "2s");
        let broker = Member::start(broker).await;
        let gateway = site
            .gateway("", &broker)
            .env("EVERGREEN_ACCESS_KEYS_FILE", site.scratch.join("access"))
            .env("GHL_API_URL", &site.sandbox.url);
        let gateway = Member::start(gateway).await;
        Self {
            site,
            broker,
            gateway,
        }
    }

    /// Changes the files, and waits until both processes have answered a SIGHUP with these words.
    async fn reload(&self, keys: &Keys, words: &[&str]) {
        write(&self.site, keys);
        for member in [&self.gateway, &self.broker] {
            let program = member.program.as_ref().unwrap();
            let seen = count(&program.log(), words);
            program.signal(HANGUP);
            until(&format!("{words:?}"), PATIENCE, || async {
                let log = program.log();
                match count(&log, words) > seen {
                    true => Ok(()),
                    false => Err(log.join("\n")),
                }
            })
            .await;
        }
    }

    async fn refresh(&self, id: &str) {
        let url = format!("{}/v1/installations/{id}/refresh", self.broker.internal);
        let (status, refreshed) = client::send(self.site.client.post(url)).await;
        assert_eq!(status, 200, "{refreshed}");
    }
}

fn write(site: &Site, keys: &Keys) {
    fs::write(site.scratch.join("access"), &keys.access).unwrap();
    fs::write(site.scratch.join("refresh"), &keys.refresh).unwrap();
}

fn count(log: &[String], words: &[&str]) -> usize {
    let has_all = |line: &&String| words.iter().all(|word| line.contains(word));
    log.iter().filter(has_all).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn rings_are_rotated_by_hangups_without_a_failed_call() {
    let (old, new, stranger) = (Keys::new("old"), Keys::new("new"), Keys::new("new"));
    let mut running = Rotating::start(&old).await;
    let mut ids = Vec::new();
    for location in ["locA", "locB"] {
        ids.push(running.site.install(&running.broker, location).await);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn({
        let (client, ids, stop) = (running.site.client.clone(), ids.clone(), stop.clone());
        let url = format!("http://{}", running.gateway.address);
        async move {
            let mut calls = 0;
            while !stop.load(Ordering::Relaxed) {
                let part = steady_load(&client, &url, &ids, 50, Duration::from_millis(500)).await;
                part.expect_success();
                calls += part.total();
            }
            calls
        }
    });
    running.refresh(&ids[0]).await;

    let applied = ["were read again", "EVERGREEN_ACCESS_KEYS"];
    running.reload(&old.then(&new), &applied).await;
    running.reload(&new.then(&old), &applied).await;
    running.refresh(&ids[1]).await;
    let output = Start::evergreen(&["seal", "rotate"])
        .env("EVERGREEN_ADMIN_URL", &running.broker.internal)
        .env("EVERGREEN_ADMIN_KEY", client::KEY)
        .run_within(ROTATION)
        .await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("Can be removed from EVERGREEN_ACCESS_KEYS now: old."),
        "{said}"
    );
    assert!(
        said.contains("Can be removed from EVERGREEN_REFRESH_KEYS now: old."),
        "{said}"
    );
    let program = running.broker.program.as_ref().unwrap();
    let resealed = ["the journal is sealed with the first refresh key"];
    program.wait_for_line(&resealed, PATIENCE).await;
    running.reload(&new, &applied).await;

    // Another key under an id of the store changes nothing.
    let refused = [
        "everything stays as it is",
        "has another key under the id `new`",
    ];
    running.reload(&stranger, &refused).await;
    for id in &ids {
        running.refresh(id).await;
    }
    write(&running.site, &new);
    stop.store(true, Ordering::Relaxed);
    let calls = load.await.unwrap();
    assert!(calls > 200, "{calls}");

    // Everything is sealed with the new keys alone.
    running.broker.kill().await;
    running.broker.launch().await;
    for id in &ids {
        let (status, token) = running.site.token(&running.gateway, id).await;
        assert_eq!(status, 200, "{token}");
        running.refresh(id).await;
    }
}
