//! The records of installations: `store::record` and `store_writer::Installation`.
//!
//! Input: fields of both halves, one a line.

use store::record::{StoredAccess, Unreadable};
use store::{InstallationId, KeyRing, Timestamp, freshness};
use store_writer::Installation;

use crate::input::{self, assert_showable};

const ID: &str = "install_00112233445566778899aabb";

/// A record is written as it is read, fields of other builds are ignored, and any numbers can be computed with.
pub fn check(bytes: &[u8]) {
    let fields = input::fields(bytes);
    let id: InstallationId = ID.parse().expect("an id");
    let shown = format!("{fields:?}");
    if let Ok(token) = fields.bytes("at")
        && token.len() >= 16
        && !fields
            .iter()
            .any(|(name, _)| name.contains(&*input::text(token)))
    {
        assert!(!shown.contains(&*input::text(token)), "{shown}");
    }

    match StoredAccess::from_fields(&fields) {
        Ok(access) => access_half(&access),
        Err(error) => assert_showable(&error.to_string(), 80),
    }
    match Installation::from_fields(id.clone(), &fields, &fields) {
        Err(error) => assert_showable(&error.to_string(), 80),
        Ok(installation) => {
            let (access, refresh) = (installation.access.to_fields(), installation.to_fields());
            let again = Installation::from_fields(id.clone(), &access, &refresh);
            assert_eq!(again.as_ref(), Ok(&installation));

            let mut newer = fields;
            newer.set("a field of another build", "x");
            let same = Installation::from_fields(id.clone(), &newer, &newer);
            assert_eq!(same, Ok(installation));
            newer.set("min", u32::MAX);
            let refused = Installation::from_fields(id, &newer, &newer);
            assert_eq!(refused, Err(Unreadable::TooNew(u32::MAX)));
        }
    }
}

fn access_half(access: &StoredAccess) {
    let again = StoredAccess::from_fields(&access.to_fields());
    assert_eq!(again.as_ref(), Ok(access));
    // No number makes these overflow.
    for now in [0, i64::MIN, i64::MAX, 1_700_000_000_000].map(Timestamp::from_millis) {
        if let Some(expires_at) = access.expires_at {
            let _ = freshness::of(expires_at, access.lifetime, now);
            let lead = freshness::Lead::Auto;
            assert!(lead.due(expires_at, access.lifetime, 255) <= expires_at);
            assert_showable(&expires_at.to_string(), 32);
        }
    }
    let ring = KeyRing::parse(&"other:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into());
    let ring = ring.expect("a ring");
    let id = ID.parse().expect("an id");
    match access.clone().open(&id, &ring) {
        Err(error) => assert_showable(&error.to_string(), 160),
        Ok(record) => panic!("{record:?} is authentic"),
    }
}
