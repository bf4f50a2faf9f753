//! Checks whether the store keeps what is written to it.

use std::time::Duration;

use futures_util::future::join_all;
use store::{keys, random};

use super::{StoreWriter, WriteError};
use crate::check::{ClockHistory, Finding, ProbeError, Reason, Severity, evaluate};

/// The TTL of a probe's value, for the case that it cannot be deleted.
const PROBE_TTL: Duration = Duration::from_secs(60);

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
        let refused = refused.filter_map(|error| error.finding());
        for finding in refused.chain(self.probe_outbox().await) {
            let is_known = |known: &Finding| known.reason == finding.reason;
            if !findings.iter().any(is_known) {
                findings.push(finding);
            }
        }
        Ok(findings)
    }

    /// Tries to write a key of the outbox. Its rights are younger than those of the other keys, so users of an older build
    /// lack them, and only changes with an event fail.
    async fn probe_outbox(&self) -> Option<Finding> {
        let [partition, random @ ..] = random::bytes::<5>();
        let key = keys::outbox_probe(partition, &u32::from_be_bytes(random).to_string());
        match self.backend.probe_key(&key, PROBE_TTL).await {
            Err(WriteError::Refused(error)) => Some(Finding {
                reason: Reason::Writes,
                severity: Severity::Unsafe,
                text: format!(
                    "the store's user may not write events: {error}; load this version's deploy/users.acl into the store"
                ),
            }),
            Ok(()) | Err(_) => None,
        }
    }
}
