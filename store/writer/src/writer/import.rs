//! Import: installations whose tokens another backend has kept. See [`crate::protocol::import`].

use std::sync::atomic::{AtomicBool, Ordering};

use secrecy::SecretString;
use store::{CompanyId, Customer, Generation, InstallationId, LocationId, Timestamp};

use super::{Decision, StoreWriter, WriteError, parse};
use crate::consent::{Claim, NewCustomer};
use crate::grant::{Fingerprint, Registration};
use crate::installation::Installation;
use crate::protocol::{
    self, ImportDecision, ImportRefusal, ImportedTokens, PreviousRecord, Unchanged, import_consent,
};

/// A row to import.
#[derive(Debug, Clone)]
pub struct ImportRow {
    registration: Registration,
    fingerprint: Fingerprint,
    issued_at: Option<Timestamp>,
    customer: Customer,
}

impl ImportRow {
    /// `registration`: the tokens and their owner, with this refresh token. Without an `expires_at` the token counts as
    /// expired, so that it is refreshed at once. `issued_at`: when the tokens were issued, if it is known. `customer`: what
    /// the caller knows. An external id that another installation has stays there.
    #[must_use]
    pub fn new(
        refresh_token: SecretString,
        registration: Registration,
        issued_at: Option<Timestamp>,
        customer: Customer,
    ) -> Self {
        Self {
            fingerprint: Fingerprint::of(&refresh_token),
            registration: Registration {
                refresh_token: Some(refresh_token),
                ..registration
            },
            issued_at,
            customer,
        }
    }

    /// The location, or else the company.
    #[must_use]
    pub fn owner(&self) -> &str {
        let location = self.registration.location.as_ref().map(LocationId::as_str);
        let company = self.registration.company.as_ref().map(CompanyId::as_str);
        location.or(company).unwrap_or_default()
    }
}

/// Whether a row is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportMode {
    /// It is.
    Write,
    /// It is not. The outcome is what it would be.
    DryRun,
}

/// The outcome of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportOutcome {
    /// The installation has the row's tokens now.
    Imported,
    /// It has others, or had them already.
    Unchanged(Unchanged),
    /// Somebody has to act.
    Refused(ImportRefusal),
}

/// A row that was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Its installation. `None` for a new one in a dry run.
    pub id: Option<InstallationId>,
    /// The generation of the installation's tokens now.
    pub generation: Generation,
    /// The outcome.
    pub outcome: ImportOutcome,
    /// Whether another installation has the row's external id.
    pub is_external_id_taken: bool,
}

impl StoreWriter {
    /// Imports a row, unless the store has newer tokens of its owner. A row may be imported any number of times.
    ///
    /// # Errors
    /// When the store is unavailable, when too few replicas have the record, or when the stored record cannot be read.
    pub async fn import(&self, row: &ImportRow, mode: ImportMode) -> Result<Imported, WriteError> {
        let registration = &row.registration;
        let id = match mode {
            ImportMode::Write => self.name(InstallationId::random(), registration).await?,
            ImportMode::DryRun => match self.resolve_in(&registration.app, row.owner()).await? {
                Some(id) => id,
                None => return Ok(Imported::new_in_dry_run()),
            },
        };
        let wanted = NewCustomer {
            customer: row.customer.clone(),
            claim: Claim::Free,
            link: None,
        };
        if wanted.customer.is_empty() || mode == ImportMode::DryRun {
            return self.import_as(id, row, mode, &wanted).await;
        }
        // The external id is reserved only for a row that counts.
        let preview = self.import_as(id.clone(), row, ImportMode::DryRun, &wanted);
        let preview = preview.await?;
        let mut claimed = match preview.outcome {
            ImportOutcome::Refused(_) => return Ok(preview),
            ImportOutcome::Unchanged(_) => {
                self.attach_customer(&registration.app, &id, &wanted)
                    .await?
            }
            ImportOutcome::Imported => self.claim_name(&registration.app, &id, &wanted).await?,
        };
        let imported = self.import_as(id.clone(), row, mode, &claimed).await?;
        self.confirm_name(&registration.app, &id, &mut claimed)
            .await?;
        Ok(Imported {
            is_external_id_taken: claimed.customer.external_id != wanted.customer.external_id,
            ..imported
        })
    }

    async fn import_as(
        &self,
        id: InstallationId,
        row: &ImportRow,
        mode: ImportMode,
        customer: &NewCustomer,
    ) -> Result<Imported, WriteError> {
        let registration = &row.registration;
        let early = self.early_details(&id).await?;
        let has_written = AtomicBool::new(false);
        let mut agency = None;
        let ((generation, outcome), revision) = loop {
            let decided = self.decide_loaded(&id, |loaded| {
                let current = parse(&id, loaded)?;
                let parent = current.as_ref().and_then(|it| it.access.parent.as_ref());
                let is_minted = match (parent, &agency) {
                    (None, _) => false,
                    (Some(parent), Some((known, works))) if known == parent => *works,
                    (Some(parent), _) => return Ok(Decision::Leave(Step::Ask(parent.clone()))),
                };
                let tokens = ImportedTokens {
                    fingerprint: &row.fingerprint,
                    expires_at: registration.expires_at,
                    issued_at: row.issued_at,
                };
                let decision = protocol::import(current.as_ref(), is_minted, tokens, loaded.now);
                let generation = current.as_ref().map(|it| it.access.generation);
                let generation = generation.unwrap_or(Generation::NONE);
                let outcome = match (decision, mode) {
                    (ImportDecision::Write, ImportMode::Write) => {
                        has_written.store(true, Ordering::Relaxed);
                        let mut next = self.imported(&id, current.as_ref(), row, loaded.now);
                        let known = current.as_ref().map(|it| it.customer.clone());
                        next.customer = customer.merged_into(known.unwrap_or_default());
                        next.details = current.and_then(|it| it.details).or_else(|| early.clone());
                        let written = (next.access.generation, ImportOutcome::Imported);
                        return Ok(Decision::Write(Box::new(next), Step::Done(written)));
                    }
                    (ImportDecision::Write, ImportMode::DryRun) => ImportOutcome::Imported,
                    // Our own write, whose acknowledgement was lost.
                    (ImportDecision::Unchanged(Unchanged::ImportedBefore { .. }), _)
                        if has_written.load(Ordering::Relaxed) =>
                    {
                        ImportOutcome::Imported
                    }
                    (ImportDecision::Unchanged(why), _) => ImportOutcome::Unchanged(why),
                    (ImportDecision::Refused(why), _) => ImportOutcome::Refused(why),
                };
                Ok(Decision::Leave(Step::Done((generation, outcome))))
            });
            match decided.await? {
                (Step::Done(outcome), revision) => break (outcome, revision),
                (Step::Ask(parent), _) => {
                    let works = self.load(&parent).await?;
                    let works = works.is_some_and(|known| protocol::mints(&known.installation));
                    agency = Some((parent, works));
                }
            }
        };
        let is_ours = match outcome {
            ImportOutcome::Imported => mode == ImportMode::Write,
            ImportOutcome::Unchanged(Unchanged::ImportedBefore { .. }) => true,
            ImportOutcome::Unchanged(
                Unchanged::Current | Unchanged::StoredIsNewer | Unchanged::OfAgency,
            )
            | ImportOutcome::Refused(_) => false,
        };
        if is_ours {
            // A later generation was written after this one.
            let is_there = |current: &Installation, _| current.access.generation >= generation;
            self.confirm(&id, revision, is_there).await?;
        }
        Ok(Imported {
            id: Some(id),
            generation,
            outcome,
            is_external_id_taken: false,
        })
    }

    fn imported(
        &self,
        id: &InstallationId,
        current: Option<&Installation>,
        row: &ImportRow,
        now: Timestamp,
    ) -> Installation {
        let mut registration = row.registration.clone();
        registration.expires_at = registration.expires_at.or(Some(now));
        let earlier = current.map(PreviousRecord::of);
        let consent = import_consent(&row.fingerprint);
        let mut next = self.registered(id, &consent, earlier, &registration, now);
        // A consent that was given since, and an uninstallation since, must count more than the row.
        let issued_at = row.issued_at.map(|at| at.min(now));
        next.consented_at = issued_at.unwrap_or(now);
        next.granted_at = Some(next.consented_at);
        next.refreshed_at = issued_at;
        next
    }
}

/// The result of one look at a record.
enum Step {
    Done((Generation, ImportOutcome)),
    /// It is a location of this agency, whose record is needed.
    Ask(InstallationId),
}

impl Imported {
    const fn new_in_dry_run() -> Self {
        Self {
            id: None,
            generation: Generation::NONE,
            outcome: ImportOutcome::Imported,
            is_external_id_taken: false,
        }
    }
}
