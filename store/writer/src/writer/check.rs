//! Checks whether the store keeps what is written to it.

use futures_util::future::join_all;
use store::random;

use super::{StoreWriter, WriteError};
use crate::check::{ClockHistory, Finding, ProbeError, evaluate};

impl StoreWriter {
    /// Proves that the store accepts writes now: writes a value, reads it back and deletes it.
    ///
    /// # Errors
    /// When the store does not.
    pub async fn prove_writable(&self) -> Result<(), ProbeError> {
        self.backend.probe(random::bytes::<1>()[0]).await
    }

    /// Everything that is wrong with the store. `clocks` holds the readings of earlier checks.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn check_store(&self, clocks: &mut ClockHistory) -> Result<Vec<Finding>, WriteError> {
        let facts = self.backend.facts().await?;
        let mut findings = evaluate(&facts);
        findings.extend(clocks.compare(&facts));
        // A probe of one key tests one master.
        let partitions = if facts.len() > 1 {
            (0..=u8::MAX).collect()
        } else {
            random::bytes::<1>().to_vec()
        };
        let probes = partitions
            .into_iter()
            .map(|partition| self.backend.probe(partition));
        let refused = join_all(probes).await.into_iter().filter_map(Result::err);
        for finding in refused.filter_map(|error| error.finding()) {
            let is_known = |known: &Finding| known.reason == finding.reason;
            if !findings.iter().any(is_known) {
                findings.push(finding);
            }
        }
        Ok(findings)
    }
}
