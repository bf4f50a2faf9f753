//! Turns to count the calls for an agency. Tasks that count at once would only repeat each other's writes.

use std::array;
use std::hash::{DefaultHasher, Hash, Hasher};

use store::CompanyId;
use tokio::sync::{Mutex, MutexGuard};

/// Far more than agencies that are busy at a time. Agencies that share a turn wait for each other.
const TURNS: usize = 64;

/// One turn for each agency, so that a slow one does not hold up the others.
#[derive(Debug)]
pub(crate) struct AgencyTurns([Mutex<()>; TURNS]);

impl Default for AgencyTurns {
    fn default() -> Self {
        Self(array::from_fn(|_| Mutex::default()))
    }
}

impl AgencyTurns {
    /// Waits for the turn of an agency. It ends with the guard.
    pub(super) async fn take(&self, company: &CompanyId) -> MutexGuard<'_, ()> {
        self.of(company).lock().await
    }

    fn of(&self, company: &CompanyId) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        company.hash(&mut hasher);
        let [byte, ..] = hasher.finish().to_le_bytes();
        &self.0[usize::from(byte) % TURNS]
    }
}
