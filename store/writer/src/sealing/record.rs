//! Which keys one record needs, and the record after all of it is sealed with the first keys.

use std::collections::BTreeMap;

use store::key_list::RingKind;
use store::seal::{KeyRing, Label, Sealed};

use crate::installation::Installation;
use crate::rings::Rings;

/// The keys of one ring that the values of some records need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyUse {
    /// Records with a value that the key of this id has sealed.
    pub sealed: BTreeMap<String, u64>,
    /// Those of them that this process cannot open.
    pub unreadable: BTreeMap<String, u64>,
}

impl KeyUse {
    /// Adds another count.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.sealed, &other.sealed),
            (&mut self.unreadable, &other.unreadable),
        ] {
            for (id, count) in theirs {
                *mine.entry(id.clone()).or_default() += count;
            }
        }
    }

    /// Counts one value, or one record, under the key of this id.
    pub(crate) fn count(&mut self, id: &str, is_readable: bool) {
        *self.sealed.entry(id.to_owned()).or_default() += 1;
        if !is_readable {
            *self.unreadable.entry(id.to_owned()).or_default() += 1;
        }
    }
}

/// In the place of a key id, if a sealed value is too damaged to have one.
pub const DAMAGED: &str = "?";

/// The keys of a ring that one record needs. Each key counts once, however many values it has sealed.
#[must_use]
pub fn key_use(record: &Installation, kind: RingKind, ring: &KeyRing) -> KeyUse {
    let mut keys: BTreeMap<&str, bool> = BTreeMap::new();
    for (label, sealed) in record.sealed_values(kind) {
        let id = sealed.key_id().unwrap_or(DAMAGED);
        let is_readable = keys.entry(id).or_insert(true);
        *is_readable &= ring.open(label, sealed).is_ok();
    }
    let mut count = KeyUse::default();
    for (id, is_readable) in keys {
        count.count(id, is_readable);
    }
    count
}

/// The record with every value sealed by the first key of its ring. Chain, generation and schedule stay.
/// Values that cannot be opened stay as they are. `None` if nothing changes.
#[must_use]
pub fn resealed(record: &Installation, rings: &Rings) -> Option<Installation> {
    let mut next = record.clone();
    let again = |ring: &KeyRing, (label, sealed): &(Label<'_>, &Sealed)| {
        ring.reseal(*label, sealed).ok().flatten()
    };
    let of = |kind| {
        let values = record.sealed_values(kind);
        let ring = rings.of(kind);
        values
            .iter()
            .map(|value| again(ring, value))
            .collect::<Vec<_>>()
    };
    let access = of(RingKind::Access).into_iter().flatten();
    access.for_each(|sealed| next.access.token = sealed);
    // In the order of `sealed_values`: the current token, then the alternates.
    let refresh = of(RingKind::Refresh);
    let current = next.chain.iter_mut().map(|chain| &mut chain.refresh_token);
    let alternates = next.alternates.values_mut().map(|kept| &mut kept.grant);
    for (value, sealed) in current.chain(alternates).zip(refresh) {
        if let Some(sealed) = sealed {
            *value = sealed;
        }
    }
    (next != *record).then_some(next)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use secrecy::{ExposeSecret, SecretString};
    use store::{AppName, Generation, InstallationId, Timestamp, UserType};

    use super::*;
    use crate::grant::{ChainLink, Fingerprint, Grant, Registration};
    use crate::installation::{Alternate, refresh_label};
    use crate::protocol::{SealedTokens, register};

    fn rings(texts: &[&str]) -> Rings {
        let ring = || Arc::new(KeyRing::parse(&texts.join(",").into()).unwrap());
        Rings {
            access: ring(),
            refresh: ring(),
        }
    }

    fn key(id: &str) -> String {
        KeyRing::generate_text(id).expose_secret().to_owned()
    }

    /// A record with an alternate.
    fn sealed_with(rings: &Rings) -> Installation {
        let (id, now) = (InstallationId::random(), Timestamp::from_millis(1_000_000));
        let lifetime = Duration::from_secs(3600);
        let (access_token, refresh_token) = (SecretString::from("a1"), SecretString::from("r1"));
        let label = refresh_label(&id, Generation::FIRST);
        let sealed = SealedTokens {
            access: rings.seal_access(&id, Generation::FIRST, &access_token),
            refresh: Some(rings.seal_refresh(label, &refresh_token)),
        };
        let registration = Registration {
            app: AppName::default(),
            client: None,
            access_token,
            refresh_token: Some(refresh_token),
            expires_at: Some(now + lifetime),
            lifetime,
            scopes: String::new(),
            user_type: UserType::Location,
            location: Some("L".parse().unwrap()),
            company: None,
        };
        let due = Some(now + lifetime / 2);
        let mut record = register(id.clone(), "consent", None, &registration, sealed, due, now);
        let grant = Grant {
            client: None,
            installation: id,
            spent: ChainLink {
                consent: "consent".to_owned(),
                generation: Generation::FIRST,
                fingerprint: Fingerprint::of(&"r0".into()),
            },
            access_token: "a2".into(),
            refresh_token: "r2".into(),
            expires_at: now + lifetime,
            lifetime,
            scopes: None,
        };
        let alternate = Alternate {
            spent_generation: Generation::FIRST,
            grant: grant.seal(&rings.refresh),
        };
        record.alternates.insert(grant.fingerprint(), alternate);
        record
    }

    #[test]
    fn resealed_record_differs_in_its_seals_only_and_needs_the_new_key_alone() {
        let (old, new) = (key("old"), key("new"));
        let (before, both) = (rings(&[&old]), rings(&[&new, &old]));
        let record = sealed_with(&before);
        let next = resealed(&record, &both).unwrap();
        assert_eq!(resealed(&next, &both), None);
        let after = rings(&[&new]);
        for kind in RingKind::ALL {
            let used = key_use(&next, kind, after.of(kind));
            assert_eq!(used.sealed, BTreeMap::from([("new".to_owned(), 1)]));
            assert_eq!(used.unreadable, BTreeMap::new());
            let used = key_use(&record, kind, after.of(kind));
            assert_eq!(used.unreadable, BTreeMap::from([("old".to_owned(), 1)]));
        }
        // The alternate still opens as a grant of its generation.
        let alternate = next.alternates.values().next().unwrap();
        let spent = alternate.spent_generation;
        assert!(Grant::open(&next.id, spent, &alternate.grant, &after.refresh).is_ok());
        let mut same = next;
        same.access.token = record.access.token.clone();
        same.chain.clone_from(&record.chain);
        same.alternates.clone_from(&record.alternates);
        assert_eq!(same, record);
    }

    #[test]
    fn value_that_cannot_be_opened_stays() {
        let record = sealed_with(&rings(&[&key("lost")]));
        let others = rings(&[&key("new")]);
        assert_eq!(resealed(&record, &others), None);
        let used = key_use(&record, RingKind::Refresh, &others.refresh);
        assert_eq!(used.unreadable, BTreeMap::from([("lost".to_owned(), 1)]));
    }
}
