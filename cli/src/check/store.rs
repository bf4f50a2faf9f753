//! The store in Redis, its lock nodes, and whether the sealing keys are the store's.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use secrecy::SecretString;
use store::TokenReader;
use store::connection::Address;
use store::freshness::Lead;
use store::key_list::{KeyCheck, RingKind};
use store_writer::check::Severity;
use store_writer::trial::{self, Found, Report, Role};
use store_writer::{Rings, Store};

use super::clock::{compare, now};
use super::finding::Finding;
use crate::exit::chain;
use crate::run::{Checked, Place, Redis};

const UNREACHABLE: &str = "is it running, and do the address, the user and the password fit? `evergreen check-store` \
                           tries it alone";

pub(super) async fn store(checked: Arc<Checked>) -> Vec<Finding> {
    let Place::Redis(redis) = &checked.place else {
        return Vec::new();
    };
    let role = match redis.replicas {
        Some(_) => Role::Broker,
        None => Role::Gateway,
    };
    tried("store", redis, &redis.url, role).await
}

pub(super) async fn lock_node(checked: Arc<Checked>, number: usize) -> Vec<Finding> {
    let Place::Redis(redis) = &checked.place else {
        return Vec::new();
    };
    let urls = redis.locks.iter().flatten();
    let Some(url) = urls.into_iter().nth(number) else {
        return Vec::new();
    };
    tried("lock node", redis, url, Role::LockNode).await
}

async fn tried(name: &'static str, redis: &Redis, url: &SecretString, role: Role) -> Vec<Finding> {
    let address = match address(redis, url) {
        Ok(address) => address,
        Err(problem) => return vec![problem_of(name, problem)],
    };
    let server = address.to_string();
    match trial::run(address, role, redis.replicas.unwrap_or(0)).await {
        Ok(report) => judged(name, &server, &report),
        Err(error) => vec![Finding::problem(
            name,
            format!("{server}: {}", chain(&error)),
            UNREACHABLE,
        )],
    }
}

fn address(redis: &Redis, url: &SecretString) -> Result<Address, String> {
    let address = Address::parse_with_tls(url, &redis.tls);
    let address = address.map_err(|error| chain(&error))?;
    Ok(address.with_prefix(redis.prefix.clone()))
}

fn problem_of(name: &'static str, problem: String) -> Finding {
    Finding::problem(name, problem, "docs/settings.md has the forms of the URL")
}

/// One line if all is well, else one for each fault.
fn judged(name: &'static str, server: &str, report: &Report) -> Vec<Finding> {
    let tried = report.tried.iter().filter_map(|it| match &it.result {
        Found::There(_) => None,
        Found::Lost { reason, lost } => Some(Finding::warning(
            name,
            format!("{server}: {}: {reason}", it.what),
            format!("without it: {lost}"),
        )),
        Found::Missing { reason, lost } => Some(Finding::problem(
            name,
            format!("{server}: {}: {reason}", it.what),
            format!("evergreen needs it: {lost}. deploy/users.acl has the rights of each user"),
        )),
    });
    let of_settings = report.findings.iter().map(|finding| {
        let text = format!("{server}: {finding}");
        match finding.severity {
            Severity::Unsafe => Finding::problem(name, text, "correct it: tokens can be lost"),
            Severity::Degraded => Finding::warning(name, text, "docs/managed-redis.md has more"),
        }
    });
    let faults: Vec<Finding> = tried.chain(of_settings).collect();
    if !faults.is_empty() {
        return faults;
    }
    let servers = match report.servers.as_slice() {
        [] => server.to_owned(),
        servers => servers.join(", "),
    };
    vec![Finding::ok(
        name,
        format!("{servers} answers, and does all that is needed"),
    )]
}

/// Whether the rings are those of the store. Nothing is registered.
pub(super) async fn sealing_keys(checked: Arc<Checked>) -> Vec<Finding> {
    const NAME: &str = "sealing keys";
    let Place::Redis(redis) = &checked.place else {
        return Vec::new();
    };
    let address = match address(redis, &redis.url) {
        Ok(address) => address,
        Err(problem) => return vec![problem_of(NAME, problem)],
    };
    let compared = match &redis.refresh {
        Some(refresh) => both_rings(address, redis, refresh).await,
        None => access_ring(address, redis).await,
    };
    let checks = match compared {
        Ok(checks) => checks,
        Err(error) => {
            let text = format!("they could not be compared with the store's: {error}");
            return vec![Finding::problem(NAME, text, UNREACHABLE)];
        }
    };
    let one = |check: KeyCheck| match check {
        KeyCheck::Wrong(wrong) => Some(Finding::problem(
            NAME,
            wrong.to_string(),
            "give this process the rings of the others",
        )),
        KeyCheck::Fits | KeyCheck::Unlisted => None,
    };
    let is_new = checks.contains(&KeyCheck::Unlisted);
    let wrong: Vec<Finding> = checks.into_iter().filter_map(one).collect();
    match (wrong.is_empty(), is_new) {
        (false, _) => wrong,
        (true, true) => {
            let text =
                "they are valid; the store has none yet, and the first broker registers its own";
            vec![Finding::ok(NAME, text)]
        }
        (true, false) => vec![Finding::ok(NAME, "they are those of the store")],
    }
}

async fn both_rings(
    address: Address,
    redis: &Redis,
    refresh: &Arc<store::KeyRing>,
) -> Result<Vec<KeyCheck>, String> {
    let rings = Rings {
        access: redis.access.clone(),
        refresh: refresh.clone(),
    };
    let store = Store::at(address, 0, rings, Lead::Auto).map_err(|error| chain(&error))?;
    let mut checks = Vec::new();
    for (kind, ring) in [
        (RingKind::Access, &redis.access),
        (RingKind::Refresh, refresh),
    ] {
        let list = store.writer.key_list(kind).await;
        checks.push(list.map_err(|error| chain(&error))?.check(kind, ring));
    }
    Ok(checks)
}

async fn access_ring(address: Address, redis: &Redis) -> Result<Vec<KeyCheck>, String> {
    let reader = TokenReader::at(address, redis.access.clone()).map_err(|error| chain(&error))?;
    let check = reader.check_ring(&redis.access).await;
    Ok(vec![check.map_err(|error| chain(&error))?])
}

/// The store's clock decides when tokens expire.
pub(super) async fn clock(checked: Arc<Checked>) -> Vec<Finding> {
    const NAME: &str = "clock of the store";
    let Place::Redis(redis) = &checked.place else {
        return Vec::new();
    };
    // Its faults are reported by the check of the store.
    let Ok(address) = address(redis, &redis.url) else {
        return Vec::new();
    };
    let Ok(reader) = TokenReader::at(address, redis.access.clone()) else {
        return Vec::new();
    };
    if reader.ping().await.is_err() {
        return Vec::new();
    }
    let there = Duration::from_millis(u64::try_from(reader.now().as_millis()).unwrap_or(0));
    let there = SystemTime::UNIX_EPOCH + there;
    vec![compare(NAME, "the store", now(), there)]
}

#[cfg(test)]
mod tests {
    use store_writer::check::{Finding as Unsafety, Reason};
    use store_writer::trial::Tried;

    use super::super::finding::{State, worst};
    use super::*;

    #[test]
    fn each_fault_of_a_store_is_a_line() {
        let report = |result: Found, severity: Option<Severity>| Report {
            servers: vec!["a:1 is Redis 7.0.15".to_owned()],
            tried: vec![Tried {
                what: "lists",
                result,
            }],
            findings: (severity.into_iter())
                .map(|severity| Unsafety {
                    reason: Reason::Eviction,
                    severity,
                    text: "it evicts".to_owned(),
                })
                .collect(),
        };
        let (reason, lost) = ("NOPERM".to_owned(), "all of it");
        for (result, severity, count, expected) in [
            (Found::There(String::new()), None, 1, State::Ok),
            (
                Found::There(String::new()),
                Some(Severity::Unsafe),
                1,
                State::Problem,
            ),
            (
                Found::Lost {
                    reason: reason.clone(),
                    lost,
                },
                Some(Severity::Degraded),
                2,
                State::Warning,
            ),
            (Found::Missing { reason, lost }, None, 1, State::Problem),
        ] {
            let found = judged("store", "a:1", &report(result, severity));
            assert_eq!(found.len(), count, "{found:?}");
            assert_eq!(worst(&found), expected, "{found:?}");
            assert!(found[0].to_string().contains("a:1"), "{found:?}");
        }
    }
}
