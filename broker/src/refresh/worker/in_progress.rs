//! The installations with an attempt of this process in progress.

use std::collections::BTreeSet;
use std::sync::Mutex;

use store::InstallationId;

use service::locks::lock;

use crate::metrics;

/// Marks an installation as in progress until it is dropped.
pub(super) struct InProgressGuard<'w> {
    all: &'w Mutex<BTreeSet<InstallationId>>,
    id: &'w InstallationId,
}

impl<'w> InProgressGuard<'w> {
    pub(super) fn begin(
        all: &'w Mutex<BTreeSet<InstallationId>>,
        id: &'w InstallationId,
    ) -> Option<Self> {
        let mut in_progress = lock(all);
        let is_first = in_progress.insert(id.clone());
        metrics::in_flight(in_progress.len());
        drop(in_progress);
        // Create the guard only if this call inserted the id, because dropping it removes the id.
        is_first.then(|| Self { all, id })
    }
}

impl Drop for InProgressGuard<'_> {
    fn drop(&mut self) {
        let mut in_progress = lock(self.all);
        in_progress.remove(self.id);
        metrics::in_flight(in_progress.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_attempt_is_refused_until_the_first_ends() {
        let (all, id) = (Mutex::default(), InstallationId::random());
        let first = InProgressGuard::begin(&all, &id).unwrap();
        for _ in 0..2 {
            assert!(InProgressGuard::begin(&all, &id).is_none());
        }
        drop(first);
        assert!(InProgressGuard::begin(&all, &id).is_some());
    }
}
