//! Whether the store keeps what is written to it, asked of the store.

use futures_util::future::join_all;
use store::random;

use super::{StoreWriter, WriteError};
use crate::check::{Clocks, Finding, ProbeError, judge};

impl StoreWriter {
    /// Proves that the store takes a write now: writes a value, reads it back and deletes it.
    ///
    /// # Errors
    /// When it does not.
    pub async fn prove_writable(&self) -> Result<(), ProbeError> {
        self.backend.probe(random::bytes::<1>()[0]).await
    }

    /// What is not as it should be with the store.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn examine(&self, clocks: &mut Clocks) -> Result<Vec<Finding>, WriteError> {
        let facts = self.backend.facts().await?;
        let mut findings = judge(&facts);
        findings.extend(clocks.note(&facts));
        // One key proves one master.
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
