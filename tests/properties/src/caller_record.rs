//! The records of API keys: `store::Caller`.
//!
//! Input: fields, one a line.

use store::record::Unreadable;
use store::{AppName, Caller, InstallationId, Scope, Timestamp};

use crate::input::{self, assert_showable};

/// A record grants what it says and nothing else, and is written as it is read.
pub fn check(bytes: &[u8]) {
    let fields = input::fields(bytes);
    let caller = match Caller::from_fields(&fields) {
        Ok(caller) => caller,
        Err(error) => return assert_showable(&error.to_string(), 80),
    };
    assert_eq!(Caller::from_fields(&caller.to_fields()), Ok(caller.clone()));

    let text = |name| fields.parse_optional::<String>(name).expect("it was read");
    let is_for_all = caller.installations.is_none();
    assert_eq!(is_for_all, text("inst").as_deref() == Some("*"));
    let stranger: InstallationId = "install_ffffffffffffffffffffffff".parse().expect("an id");
    let is_listed = text("inst").is_some_and(|list| list.contains(stranger.as_str()));
    let app = text("app").map_or_else(AppName::default, |app| app.parse().expect("it was read"));
    let may_use = caller.may_use(&stranger, None, &app);
    assert_eq!(may_use, is_for_all || is_listed);
    let another = "x-another".parse().expect("a name");
    let is_for_all_apps = caller.app.is_none() || caller.app.as_ref() == Some(&another);
    assert_eq!(
        caller.may_use(&stranger, None, &another),
        may_use && is_for_all_apps
    );
    let listed = text("calls").unwrap_or_default();
    assert_eq!(caller.calls.is_none(), listed.is_empty());
    assert!(caller.calls.is_some() || caller.may_call("GET", "/a/b"));
    let granted = text("scopes").unwrap_or_default();
    for scope in Scope::ALL {
        let is_granted = granted
            .split(',')
            .any(|it| it == scope.as_str() || it == "admin");
        assert_eq!(caller.may(scope), is_granted || scope == Scope::Metrics);
    }
    if text("rev").is_some() {
        assert!(!caller.is_live(Timestamp::from_millis(i64::MIN)), "revoked");
    }
    if let Some(expiry) = caller.expires_at {
        assert!(!caller.is_live(expiry), "expired");
    }
    if let Some(quota) = caller.quota {
        assert_eq!(quota.to_string().parse(), Ok(quota));
        assert!(quota.calls() > 0 && !quota.interval().is_zero());
    }

    let mut newer = fields;
    newer.set("a field of another build", "x");
    assert_eq!(Caller::from_fields(&newer).as_ref(), Ok(&caller));
    newer.set("min", u32::MAX);
    let refused = Err(Unreadable::TooNew(u32::MAX));
    assert_eq!(Caller::from_fields(&newer), refused);
}
