//! Installations with an attempt of this process under way.

use std::collections::BTreeSet;
use std::sync::Mutex;

use store::InstallationId;

use super::lock;

/// An installation among those under way, until it is dropped.
pub(super) struct UnderWay<'w> {
    all: &'w Mutex<BTreeSet<InstallationId>>,
    id: &'w InstallationId,
}

impl<'w> UnderWay<'w> {
    pub(super) fn begin(
        all: &'w Mutex<BTreeSet<InstallationId>>,
        id: &'w InstallationId,
    ) -> Option<Self> {
        let is_first = lock(all).insert(id.clone());
        // Not made where it is not the first: dropped, it would end the other's.
        is_first.then(|| Self { all, id })
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        lock(self.all).remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_is_under_way_once() {
        let (all, id) = (Mutex::default(), InstallationId::random());
        let first = UnderWay::begin(&all, &id).unwrap();
        for _ in 0..2 {
            assert!(UnderWay::begin(&all, &id).is_none());
        }
        drop(first);
        assert!(UnderWay::begin(&all, &id).is_some());
    }
}
