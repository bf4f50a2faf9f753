//! The files of an identity, and what is wrong with them.

use std::fs;
use std::io;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretSlice};

use super::validity::Date;
use crate::config::Settings;

/// The settings that name the files of an identity.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    pub(super) certificate: &'static str,
    pub(super) key: &'static str,
    /// The CAs that peers must be of.
    pub(super) authorities: Option<&'static str>,
}

/// The files of an identity.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) names: Names,
    certificate: PathBuf,
    key: PathBuf,
    authorities: Option<PathBuf>,
}

/// The contents of the files.
#[derive(Clone)]
pub(super) struct Contents {
    pub(super) certificate: Vec<u8>,
    pub(super) key: SecretSlice<u8>,
    pub(super) authorities: Option<Vec<u8>>,
}

/// Why a file cannot be used. The message begins with the setting that names it, and never quotes the path, which may
/// be a key that was pasted into the wrong variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting} {problem}")]
pub struct Unusable {
    /// The setting.
    pub setting: &'static str,
    /// Its problem.
    pub problem: Problem,
}

/// The fault of a file. The message completes "SETTING …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A PEM text where its path is expected.
    #[error("must be the path of a PEM file, and not what is in it")]
    NoPath,
    /// The file cannot be read.
    #[error("names a file that cannot be read: {0}")]
    Unreadable(String),
    /// No `BEGIN CERTIFICATE`.
    #[error("names a file without a certificate: it must be PEM (`BEGIN CERTIFICATE`)")]
    NoCertificate,
    /// A certificate that cannot be decoded.
    #[error("names a file with a certificate that cannot be decoded: {0}")]
    BadCertificate(String),
    /// No unencrypted private key.
    #[error(
        "names a file without a private key that can be read: it must be PEM and not encrypted, in the form PKCS#8, \
         PKCS#1 or SEC1 (`openssl pkey -in encrypted.pem -out key.pem` makes such a file)"
    )]
    NoKey,
    /// A key of a kind that is not supported, or not one at all.
    #[error("names a file with a private key that cannot be used: {0}")]
    BadKey(String),
    /// The key is that of another certificate.
    #[error(
        "names the key of another certificate than the first one in the file that {0} names: replace both files \
         together, and put the chain behind the certificate"
    )]
    OtherKey(&'static str),
    /// The certificate has expired.
    #[error("names a certificate that has expired at {0}: renew it")]
    Expired(Date),
    /// The certificate is not valid yet.
    #[error("names a certificate that is valid only from {0} on: is this machine's clock right?")]
    NotYet(Date),
    /// rustls does not take it.
    #[error("cannot be used: {0}")]
    Other(String),
}

impl Files {
    /// Reads the paths. Certificate and key must be set together, and only with them the CAs.
    pub(super) fn read(settings: &mut Settings<'_>, names: Names) -> Option<Self> {
        let mut path = |key| settings.text(key).map(PathBuf::from);
        let (certificate, key) = (path(names.certificate), path(names.key));
        let authorities = names.authorities.and_then(path);
        match (certificate, key, names.authorities) {
            (Some(certificate), Some(key), _) => Some(Self {
                names,
                certificate,
                key,
                authorities,
            }),
            (Some(_), None, _) => {
                let message = format!("needs {}: set both, or neither", names.key);
                settings.mistake(names.certificate, message);
                None
            }
            (None, Some(_), _) => {
                let message = format!("needs {}: set both, or neither", names.certificate);
                settings.mistake(names.key, message);
                None
            }
            (None, None, Some(ca)) if authorities.is_some() => {
                let message = format!(
                    "needs TLS: set {} and {}, too",
                    names.certificate, names.key
                );
                settings.mistake(ca, message);
                None
            }
            (None, None, Some(_) | None) => None,
        }
    }

    /// Reads all files.
    pub(super) fn load(&self) -> Result<Contents, Unusable> {
        let names = self.names;
        let certificate = read(names.certificate, &self.certificate)?;
        let key = read(names.key, &self.key)?.into();
        let authorities = match (names.authorities, &self.authorities) {
            (Some(name), Some(path)) => Some(read(name, path)?),
            (Some(_) | None, _) => None,
        };
        Ok(Contents {
            certificate,
            key,
            authorities,
        })
    }
}

/// Reads one file.
pub(super) fn read(setting: &'static str, path: &PathBuf) -> Result<Vec<u8>, Unusable> {
    fs::read(path).map_err(|reason| {
        let is_pem = path
            .as_os_str()
            .as_encoded_bytes()
            .starts_with(b"-----BEGIN");
        let problem = match is_pem {
            true => Problem::NoPath,
            false => Problem::Unreadable(describe(&reason)),
        };
        Unusable { setting, problem }
    })
}

fn describe(reason: &io::Error) -> String {
    match reason.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("{reason}. The user that evergreen runs as must be allowed to")
        }
        _ => reason.to_string(),
    }
}

impl PartialEq for Contents {
    fn eq(&self, other: &Self) -> bool {
        self.certificate == other.certificate
            && self.key.expose_secret() == other.key.expose_secret()
            && self.authorities == other.authorities
    }
}
