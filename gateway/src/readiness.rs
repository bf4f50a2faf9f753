//! Whether this gateway can answer for a token that it does not hold. Tokens in memory are served in any case.

use std::time::Duration;

use service::error_chain::chain;
use service::readiness::{Gate, Readiness};
use service::shutdown::Shutdown;
use store::TokenReader;
use store::key_list::KeyCheck;
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

/// How long the store may be away. A restart of Redis or a failed command is no reason to move all traffic. There is no
/// such patience in the other direction: the first answer shows that calls work again.
const AWAY_AFTER: Duration = Duration::from_secs(3);

/// How often the store is probed, while the gateway is ready and while it is not.
const INTERVAL: Duration = Duration::from_secs(1);
const UNREADY_INTERVAL: Duration = Duration::from_millis(200);

/// The finding of a probe of the store.
#[derive(Debug)]
enum Found {
    /// It answered everything.
    Keys(KeyCheck),
    /// Its list of sealing keys cannot be read.
    Unreadable(String),
    /// It answers, but refuses what a gateway reads.
    Refuses(String),
    /// It does not answer.
    Away(String),
}

/// The facts that readiness depends on.
#[derive(Debug)]
struct Facts {
    found: Found,
    /// Since the last probe that was answered. `None` if none was.
    answered_ago: Option<Duration>,
    /// Whether the sealing keys have fitted the store since the start.
    has_fitted: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Ready,
    /// The store cannot be read.
    NoStore(String),
    /// The access ring is not that of the store any more.
    OtherKeys(String),
    /// The process was started with the keys of another store.
    Stop(String),
}

fn decide(facts: Facts) -> State {
    let wrong_keys = |reason: String| match facts.has_fitted {
        // Tokens in memory work. Another process could not do even that.
        true => State::OtherKeys(reason),
        false => State::Stop(reason),
    };
    match (facts.found, facts.answered_ago) {
        (Found::Keys(KeyCheck::Fits), _) => State::Ready,
        // A new store. The first broker registers its keys.
        (Found::Keys(KeyCheck::Unlisted), _) if !facts.has_fitted => State::Ready,
        (Found::Keys(KeyCheck::Unlisted), _) => State::OtherKeys(
            "the store has no list of sealing keys any more: if it lost its data, restore them; a broker \
             writes the list again within seconds"
                .to_owned(),
        ),
        (Found::Keys(KeyCheck::Wrong(wrong)), _) => wrong_keys(wrong.to_string()),
        (Found::Unreadable(error), _) => wrong_keys(error),
        (Found::Refuses(error), _) => State::NoStore(format!(
            "the store refuses what a gateway reads: give its user the rights of deploy/users.acl ({error})"
        )),
        (Found::Away(_), Some(ago)) if ago < AWAY_AFTER => State::Ready,
        (Found::Away(error), ago) => {
            let since = match ago {
                Some(ago) => format!("the store has not answered for {} s", ago.as_secs()),
                None => "the store has not answered yet".to_owned(),
            };
            State::NoStore(format!(
                "{since}: check that Redis runs, and that this host reaches EVERGREEN_REDIS_URL. Tokens in memory are \
                 still served ({error})"
            ))
        }
    }
}

async fn probe(reader: &TokenReader) -> Found {
    match reader.probe().await {
        Ok(keys) => Found::Keys(keys),
        Err(error) if !error.is_unavailable() => Found::Unreadable(chain(&error)),
        Err(error) if reader.ping().await.is_ok() => Found::Refuses(chain(&error)),
        Err(error) => Found::Away(chain(&error)),
    }
}

/// Keeps the readiness of a gateway over this store true until shutdown. The wrong sealing keys at the start end the
/// process.
pub fn watch_store(reader: TokenReader, readiness: &Readiness, shutdown: &Shutdown) {
    let gates = Gates {
        store: readiness.gate("store", "the store has not answered yet"),
        sealing_keys: readiness.gate(
            "sealing_keys",
            "the sealing keys have not been compared with those of the store yet",
        ),
    };
    shutdown.spawn(watch(reader, gates, shutdown.clone()));
}

#[derive(Debug)]
struct Gates {
    store: Gate,
    sealing_keys: Gate,
}

async fn watch(reader: TokenReader, gates: Gates, shutdown: Shutdown) {
    let (mut answered_at, mut has_fitted) = (None::<Instant>, false);
    let mut was_ready = None::<bool>;
    loop {
        let found = tokio::select! {
            biased;
            () = shutdown.started() => return,
            found = probe(&reader) => found,
        };
        if let Found::Keys(keys) = &found {
            answered_at = Some(Instant::now());
            has_fitted |= *keys == KeyCheck::Fits;
        }
        let state = decide(Facts {
            found,
            answered_ago: answered_at.map(|at| at.elapsed()),
            has_fitted,
        });
        let is_ready = state == State::Ready;
        let (store, sealing_keys) = match state {
            State::Ready => (None, None),
            State::NoStore(reason) => (Some(reason), None),
            State::OtherKeys(reason) => (None, Some(reason)),
            State::Stop(reason) => {
                error!(error = %reason, "this gateway has other access keys than the store and stops");
                return shutdown.refuse(reason);
            }
        };
        let reason = store.as_ref().or(sealing_keys.as_ref());
        match (was_ready.replace(is_ready), reason) {
            // At the start, too: a store that refuses this gateway does so from the beginning.
            (Some(true) | None, Some(reason)) => warn!(%reason, "this gateway is not ready"),
            (Some(false), None) => info!("this gateway is ready"),
            _ => {}
        }
        gates.store.set(store);
        gates.sealing_keys.set(sealing_keys);
        let wait = match is_ready {
            true => INTERVAL,
            false => UNREADY_INTERVAL,
        };
        tokio::select! {
            biased;
            () = shutdown.started() => return,
            () = sleep(wait) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use store::key_list::{RingKind, WrongRing};

    use super::*;

    fn state(found: Found, answered_ago: Option<u64>, has_fitted: bool) -> State {
        decide(Facts {
            found,
            answered_ago: answered_ago.map(Duration::from_secs),
            has_fitted,
        })
    }

    fn wrong() -> WrongRing {
        WrongRing::OtherKey {
            ring: RingKind::Access,
            id: "a".to_owned(),
        }
    }

    #[test]
    fn gateway_is_ready_if_the_store_answered_within_3_s() {
        let away = || Found::Away("connection refused".to_owned());
        let fits = || Found::Keys(KeyCheck::Fits);
        assert_eq!(state(fits(), Some(0), true), State::Ready);
        assert_eq!(state(away(), Some(2), true), State::Ready);
        let State::NoStore(reason) = state(away(), Some(3), true) else {
            panic!("it is ready");
        };
        assert!(reason.contains("not answered for 3 s"), "{reason}");
        assert!(reason.contains("connection refused"), "{reason}");
        assert!(matches!(state(away(), None, false), State::NoStore(_)));
    }

    #[test]
    fn refused_reads_close_at_once() {
        let refuses = Found::Refuses("NOPERM".to_owned());
        let State::NoStore(reason) = state(refuses, Some(0), true) else {
            panic!("it is ready");
        };
        assert!(reason.contains("deploy/users.acl"), "{reason}");
    }

    #[test]
    fn wrong_keys_end_a_process_only_before_they_have_fitted() {
        let keys = || Found::Keys(KeyCheck::Wrong(wrong()));
        let reason = wrong().to_string();
        assert_eq!(state(keys(), Some(0), false), State::Stop(reason.clone()));
        assert_eq!(state(keys(), Some(0), true), State::OtherKeys(reason));
        let unreadable = || Found::Unreadable("malformed".to_owned());
        assert!(matches!(state(unreadable(), None, false), State::Stop(_)));
        assert!(matches!(
            state(unreadable(), None, true),
            State::OtherKeys(_)
        ));
    }

    #[test]
    fn store_without_a_key_list_is_new_or_has_lost_it() {
        let unlisted = || Found::Keys(KeyCheck::Unlisted);
        assert_eq!(state(unlisted(), Some(0), false), State::Ready);
        assert!(matches!(
            state(unlisted(), Some(0), true),
            State::OtherKeys(_)
        ));
    }
}
