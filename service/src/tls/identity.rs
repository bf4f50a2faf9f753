//! A certificate with its chain, and its key.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use secrecy::{ExposeSecret, SecretSlice};

use super::files::{Contents, Files, Names, Problem, Unusable};
use super::validity::{Date, Validity};
use crate::config::Settings;

/// A certificate that is valid, with the key that belongs to it.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) certified: CertifiedKey,
    /// When the certificate, or one of its chain, expires.
    pub(super) expires: Date,
}

impl Identity {
    /// Checks that certificate and key belong together, and that the whole chain is valid now.
    pub(super) fn new(names: Names, contents: &Contents, now: Date) -> Result<Self, Unusable> {
        let certificate = |problem| Unusable {
            setting: names.certificate,
            problem,
        };
        let key = |problem| Unusable {
            setting: names.key,
            problem,
        };
        let chain = certificates(&contents.certificate).map_err(certificate)?;
        let expires = expiry(&chain, now).map_err(certificate)?;
        let private_key = PrivateKeyDer::from_pem_slice(contents.key.expose_secret())
            .map_err(|_| key(Problem::NoKey))?;
        let provider = ring::default_provider();
        let certified = CertifiedKey::from_der(chain, private_key, &provider);
        let certified = certified.map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                key(Problem::OtherKey(names.certificate))
            }
            Error::InvalidCertificate(reason) => {
                certificate(Problem::BadCertificate(format!("{reason:?}")))
            }
            other => key(Problem::BadKey(other.to_string())),
        })?;
        Ok(Self { certified, expires })
    }
}

/// The certificates in a PEM text. At least one.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(Problem::NoCertificate),
        Ok(found) => Ok(found),
        Err(reason) => Err(Problem::BadCertificate(reason.to_string())),
    }
}

/// When the first certificate of a PEM file expires. `None` if it cannot be read.
#[must_use]
pub fn first_expiry(pem: &[u8]) -> Option<SystemTime> {
    let chain = certificates(pem).ok()?;
    let dates = chain.iter().filter_map(|it| Validity::of(it).ok());
    let first = dates.map(|validity| validity.until.as_secs()).min()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(first))
}

/// The first expiry in a chain that is valid now.
fn expiry(chain: &[CertificateDer<'_>], now: Date) -> Result<Date, Problem> {
    let mut first: Option<Date> = None;
    for certificate in chain {
        let validity = Validity::of(certificate);
        let Validity { from, until } =
            validity.map_err(|reason| Problem::BadCertificate(reason.to_string()))?;
        if until < now {
            return Err(Problem::Expired(until));
        }
        if from > now {
            return Err(Problem::NotYet(from));
        }
        first = Some(first.map_or(until, |first| first.min(until)));
    }
    first.ok_or(Problem::NoCertificate)
}

/// A checked pair for a library that reads PEM itself.
#[derive(Debug, Clone)]
pub struct PemPair {
    /// The certificate and its chain.
    pub certificate: Vec<u8>,
    /// The key.
    pub key: SecretSlice<u8>,
}

/// Reads the files that two settings name, such as `EVERGREEN_REDIS_CERT` and `EVERGREEN_REDIS_KEY`. `None` if neither
/// is set. Mistakes are collected in `settings`.
pub fn read_pem_pair(
    settings: &mut Settings<'_>,
    certificate: &'static str,
    key: &'static str,
) -> Option<PemPair> {
    let names = Names {
        certificate,
        key,
        authorities: None,
    };
    let files = Files::read(settings, names)?;
    let checked = files.load().and_then(|contents| {
        Identity::new(names, &contents, Date::today())?;
        Ok(contents)
    });
    match checked {
        Ok(contents) => Some(PemPair {
            certificate: contents.certificate,
            key: contents.key,
        }),
        Err(unusable) => {
            settings.mistake(unusable.setting, unusable.problem.to_string());
            None
        }
    }
}

/// Reads the certificates in the file that a setting names.
pub(super) fn read_certificates(
    setting: &'static str,
    path: &PathBuf,
) -> Result<(Vec<u8>, Vec<CertificateDer<'static>>), Unusable> {
    let pem = super::files::read(setting, path)?;
    let found = certificates(&pem).map_err(|problem| Unusable { setting, problem })?;
    Ok((pem, found))
}
