//! CAs whose certificates are trusted.

use std::path::PathBuf;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::files::{Problem, Unusable};
use super::identity::read_certificates;
use crate::config::Settings;

/// The CAs in a file. Clones are cheap enough for a start.
#[derive(Debug, Clone, Default)]
pub struct Authorities {
    pem: Vec<u8>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// Reads `EVERGREEN_CA_FILE`: CAs that are trusted in addition to the system's. None if it is unset.
    pub fn read(settings: &mut Settings<'_>) -> Self {
        Self::read_file(settings, "EVERGREEN_CA_FILE").unwrap_or_default()
    }

    /// Reads the file that a setting names. `None` if the setting is unset. Mistakes are collected in `settings`.
    pub fn read_file(settings: &mut Settings<'_>, setting: &'static str) -> Option<Self> {
        let path = PathBuf::from(settings.text(setting)?);
        let read = read_certificates(setting, &path).and_then(|(pem, certificates)| {
            roots(setting, certificates.clone())?;
            Ok(Self { pem, certificates })
        });
        read.map_err(|unusable| settings.mistake(setting, unusable.problem.to_string()))
            .ok()
    }

    /// The certificates, in DER.
    pub fn der(&self) -> impl Iterator<Item = &[u8]> {
        self.certificates.iter().map(AsRef::as_ref)
    }

    /// The file as it was read.
    #[must_use]
    pub fn pem(&self) -> &[u8] {
        &self.pem
    }

    pub(super) fn certificates(&self) -> impl Iterator<Item = CertificateDer<'static>> {
        self.certificates.clone().into_iter()
    }
}

/// A store of these CAs alone.
pub(super) fn roots(
    setting: &'static str,
    certificates: Vec<CertificateDer<'static>>,
) -> Result<RootCertStore, Unusable> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|reason| Unusable {
            setting,
            problem: Problem::BadCertificate(reason.to_string()),
        })?;
    }
    Ok(roots)
}
