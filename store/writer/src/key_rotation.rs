//! Decides how an API key is replaced by its successor.

use std::time::Duration;

use store::caller::LOCAL_ADMINISTRATOR;
use store::{Caller, Timestamp};

/// Both keys after a rotation.
#[derive(Debug, PartialEq, Eq)]
pub struct KeyRotation {
    /// The new key: it may do what the old one may, and lives as long as the old one was made for.
    pub successor: Caller,
    /// The old key, with its end.
    pub ending: Caller,
}

/// Why a key is not rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotRotatable {
    /// There is no such key, or it has ended.
    #[error("there is no such live key")]
    NotLive,
    /// The process that has the key in its data directory would go on with the old one.
    #[error(
        "this key is in the file admin.key of a data directory: revoke it, delete the file, and restart the process, \
         which makes another one"
    )]
    OfAFile,
}

/// The keys after a rotation at `now`. The old key ends after `overlap`, or earlier if it would have ended earlier.
///
/// # Errors
/// When the key has ended, or belongs to a file.
pub fn rotate(old: Caller, now: Timestamp, overlap: Duration) -> Result<KeyRotation, NotRotatable> {
    if !old.is_live(now) {
        return Err(NotRotatable::NotLive);
    }
    if old.name == LOCAL_ADMINISTRATOR {
        return Err(NotRotatable::OfAFile);
    }
    let lifetime = old.expires_at.map(|end| end.since(old.created_at));
    let successor = Caller {
        created_at: now,
        expires_at: lifetime.map(|lifetime| now + lifetime),
        ..old.clone()
    };
    let end = now + overlap;
    let ending = Caller {
        expires_at: Some(old.expires_at.map_or(end, |own| own.min(end))),
        ..old
    };
    Ok(KeyRotation { successor, ending })
}

#[cfg(test)]
mod tests {
    use store::Scope;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn key(expires_at: Option<Timestamp>) -> Caller {
        Caller {
            name: "shop".to_owned(),
            scopes: vec![Scope::Proxy],
            app: None,
            installations: Some(Vec::new()),
            calls: Some(vec!["GET /contacts/*".parse().unwrap()]),
            quota: Some("5/1m".parse().unwrap()),
            created_at: Timestamp::from_millis(0),
            expires_at,
            revoked_at: None,
        }
    }

    #[test]
    fn successor_may_do_the_same_and_the_old_key_ends() {
        let old = key(None);
        let rotated = rotate(old.clone(), NOW, HOUR).unwrap();
        assert_eq!(
            rotated.successor,
            Caller {
                created_at: NOW,
                ..old.clone()
            }
        );
        assert_eq!(
            rotated.ending,
            Caller {
                expires_at: Some(NOW + HOUR),
                ..old
            }
        );
        let at_once = rotate(key(None), NOW, Duration::ZERO).unwrap();
        assert!(!at_once.ending.is_live(NOW));
        assert!(at_once.successor.is_live(NOW));
    }

    #[test]
    fn successor_lives_as_long_as_the_old_key_was_made_for() {
        let end = NOW + Duration::from_secs(60);
        let rotated = rotate(key(Some(end)), NOW, HOUR).unwrap();
        assert_eq!(rotated.ending.expires_at, Some(end), "it is not prolonged");
        let lifetime = end.since(Timestamp::from_millis(0));
        assert_eq!(rotated.successor.expires_at, Some(NOW + lifetime));
    }

    #[test]
    fn ended_keys_and_keys_of_files_are_not_rotated() {
        let expired = key(Some(NOW));
        let revoked = Caller {
            revoked_at: Some(NOW),
            ..key(None)
        };
        for ended in [expired, revoked] {
            assert_eq!(rotate(ended, NOW, HOUR), Err(NotRotatable::NotLive));
        }
        let of_a_file = Caller {
            name: LOCAL_ADMINISTRATOR.to_owned(),
            ..key(None)
        };
        assert_eq!(rotate(of_a_file, NOW, HOUR), Err(NotRotatable::OfAFile));
    }
}
