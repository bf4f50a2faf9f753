//! The causes of an error.

use std::error::Error as StdError;
use std::io;

/// The first of this type among an error and what caused it.
pub(crate) fn cause<'e, E: StdError + 'static>(
    error: &'e (dyn StdError + 'static),
) -> Option<&'e E> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// A fault that TLS finds in the peer, or the peer in us.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum TlsFault {
    #[error(transparent)]
    Local(rustls::Error),
    /// An alert of the peer. With TLS 1.3 a server refuses a client's certificate after the client's handshake, and h2
    /// keeps only the text of an error.
    #[error("{0}")]
    Alert(String),
}

/// How rustls describes an alert of the peer.
const ALERT: &str = "received fatal alert";

/// The fault of TLS that caused an error, if there is one.
pub(crate) fn tls_cause(error: &(dyn StdError + 'static)) -> Option<TlsFault> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if text.starts_with(ALERT) {
            return Some(TlsFault::Alert(text));
        }
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(TlsFault::Local(found.clone()));
        }
        // An I/O error is not the source of what is in it.
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        cause = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, CertificateError, Error};

    use super::*;

    fn io(inner: impl Into<Box<dyn StdError + Send + Sync>>) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, inner)
    }

    #[test]
    fn faults_of_tls_are_found_inside_of_io_errors() {
        let untrusted = Error::from(CertificateError::UnknownIssuer);
        let nested = io(io(untrusted.clone()));
        assert_eq!(tls_cause(&nested), Some(TlsFault::Local(untrusted)));
        let alert = Error::AlertReceived(AlertDescription::CertificateRequired);
        let expected = TlsFault::Alert("received fatal alert: CertificateRequired".to_owned());
        assert_eq!(tls_cause(&io(alert.clone())), Some(expected.clone()));
        assert_eq!(tls_cause(&io(alert.to_string())), Some(expected));
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(tls_cause(&refused), None);
    }
}
