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

/// What TLS has against the peer, or the peer against us, if that is the cause of an error.
pub(crate) fn tls_cause<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e rustls::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
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
    use rustls::{CertificateError, Error};

    use super::*;

    #[test]
    fn errors_of_tls_are_found_inside_of_io_errors() {
        let untrusted = Error::from(CertificateError::UnknownIssuer);
        let inner = io::Error::new(io::ErrorKind::InvalidData, untrusted.clone());
        let outer = io::Error::other(inner);
        assert_eq!(tls_cause(&outer), Some(&untrusted));
        assert_eq!(
            tls_cause(&io::Error::from(io::ErrorKind::ConnectionRefused)),
            None
        );
    }
}
