//! `evergreen check-store`: stores that can be used, that lose something, and that cannot be used.

use std::path::Path;
use std::time::Duration;

use tests::deployed::Deployed;
use tests::program::Start;
use tests::redis::{Redis, cli};

const PATIENCE: Duration = Duration::from_secs(30);

/// The exit code of the command, and its output.
async fn checked(start: Start) -> (Option<i32>, String) {
    let output = start.run_within(PATIENCE).await;
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

fn check(url: &str) -> Start {
    Start::evergreen(&["check-store"]).env("EVERGREEN_REDIS_URL", url)
}

/// The lines that begin with this word.
fn lines<'s>(said: &'s str, word: &str) -> Vec<&'s str> {
    said.lines().filter(|line| line.starts_with(word)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_deploy_have_all_that_their_processes_need() {
    let deployed = Deployed::start(1).await;
    let files = [
        ("broker-redis-url", "broker"),
        ("gateway-redis-url", "gateway"),
        ("lock-urls", "lock-node"),
    ];
    for (file, role) in files {
        // The script of `deploy/` calls this binary.
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/check-store");
        let binary = Start::evergreen(&[]).program;
        let start = Start::new(script)
            .args(&["--as", role])
            .env("EVERGREEN_BIN", binary.display())
            .env("EVERGREEN_REDIS_URL_FILE", deployed.file(file));
        let (code, said) = checked(start).await;
        assert_eq!(code, Some(0), "{role}: {said}");
        assert!(lines(&said, "ok ").len() >= 2, "{role}: {said}");
        assert!(said.contains("evergreen can use it."), "{role}: {said}");
    }
    let server = format!("server   127.0.0.1:{} is Redis ", deployed.store.port());
    let broker = deployed.file("broker-redis-url");
    let with_file = |role| {
        Start::evergreen(&["check-store", "--as", role]).env("EVERGREEN_REDIS_URL_FILE", &broker)
    };
    let (_, said) = checked(with_file("broker")).await;
    assert!(said.contains(&server), "{said}");
    // Keys that were left would be read by `keys`, and a gateway's are none.
    let left = cli(
        deployed.store.port(),
        Some(&deployed.operator()),
        &["keys", "*"],
    )
    .await;
    assert!(left.lines().all(|key| key.contains(":probe:")), "{left}");

    let gateway = Start::evergreen(&["check-store"]).env(
        "EVERGREEN_REDIS_URL_FILE",
        deployed.file("gateway-redis-url"),
    );
    let (code, said) = checked(gateway).await;
    assert_eq!(code, Some(1), "{said}");
    let missing = lines(&said, "MISSING");
    for what in ["strings", "Lua scripts", "pub/sub"] {
        let is_told = missing
            .iter()
            .any(|line| line.contains(what) && line.contains("no permissions"));
        assert!(is_told, "{what}: {said}");
    }
    let (code, said) = checked(with_file("broker").env("EVERGREEN_REDIS_PREFIX", "acme")).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("MISSING  strings"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn user_of_a_managed_store_loses_what_it_may_not_do() {
    let redis = Redis::start().await;
    let rights = [
        "~*", "&*", "+@all", "-@admin", "-wait", "-info", "-config", "-role",
    ];
    let user = ["acl", "setuser", "managed", "on", ">secret"];
    cli(redis.port(), None, &[&user[..], &rights[..]].concat()).await;
    let url = redis.url().replace("redis://", "redis://managed:secret@");
    let (code, said) = checked(check(&url)).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("with the losses above"), "{said}");
    let lost = lines(&said, "lost ").join("\n");
    for what in ["WAIT", "CONFIG GET", "INFO", "ROLE"] {
        assert!(lost.contains(what), "{what}: {said}");
    }
    assert!(lines(&said, "MISSING").is_empty(), "{said}");
    assert!(!said.contains("secret"), "{said}");
    // With replicas that must confirm a write, `WAIT` is needed.
    let (code, said) = checked(check(&url).env("EVERGREEN_REDIS_REPLICAS", "1")).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("MISSING  replicas (WAIT)"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn store_that_evicts_or_does_not_answer_cannot_be_used() {
    let evicting = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"];
    let mut redis = Redis::start_with(&evicting).await;
    let (code, said) = checked(check(&redis.url())).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        lines(&said, "UNSAFE")[0].contains("maxmemory-policy noeviction"),
        "{said}"
    );
    let wrong = redis.url().replace("redis://", "redis://somebody:wrong@");
    let (code, said) = checked(check(&wrong)).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("refuses the user") && !said.contains("wrong@"),
        "{said}"
    );
    redis.kill().await;
    let (code, said) = checked(check(&redis.url())).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("does not answer"), "{said}");
    let nowhere = Start::evergreen(&["check-store"]);
    assert_eq!(checked(nowhere).await.0, Some(64));
}
