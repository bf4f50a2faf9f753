//! When a certificate is valid. rustls checks the certificates of others, and never its own.

use std::fmt;
use std::time::{Duration, SystemTime};

use rustls::pki_types::UnixTime;
use spki::der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use spki::der::{self, Decode, Reader, SliceReader, Tag};

/// The time in which a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: Date,
    /// The last second.
    pub(super) until: Date,
}

/// Seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(u64);

impl Date {
    /// The time of this machine's clock, which rustls uses, too.
    pub(super) fn today() -> Self {
        Self(UnixTime::now().as_secs())
    }

    pub(super) fn as_secs(self) -> u64 {
        self.0
    }

    /// 0 if the other date is later.
    pub(super) fn seconds_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    #[cfg(test)]
    pub(super) fn of_day(days: u64) -> Self {
        Self(days * 24 * 3600)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(self.0);
        humantime::format_rfc3339_seconds(time).fmt(f)
    }
}

impl Validity {
    /// The validity of a certificate in DER (RFC 5280, 4.1). All fields before it are passed over.
    pub(super) fn of(certificate: &[u8]) -> der::Result<Self> {
        let certificate = AnyRef::from_der(certificate)?;
        let mut outer = SliceReader::new(certificate.value())?;
        let signed = AnyRef::decode(&mut outer)?;
        let mut fields = SliceReader::new(signed.value())?;
        // The version is optional, and the only field with this tag.
        let has_version = matches!(fields.peek_tag()?, Tag::ContextSpecific { .. });
        let serial_algorithm_and_issuer = 3;
        for _ in 0..serial_algorithm_and_issuer + usize::from(has_version) {
            AnyRef::decode(&mut fields)?;
        }
        let validity = AnyRef::decode(&mut fields)?;
        let mut times = SliceReader::new(validity.value())?;
        let (from, until) = (AnyRef::decode(&mut times)?, AnyRef::decode(&mut times)?);
        Ok(Self {
            from: date(from)?,
            until: date(until)?,
        })
    }
}

/// Dates until 2049 are `UTCTime`, later ones `GeneralizedTime`.
fn date(time: AnyRef<'_>) -> der::Result<Date> {
    let since_1970 = match time.decode_as::<UtcTime>() {
        Ok(time) => time.to_unix_duration(),
        Err(_) => time.decode_as::<GeneralizedTime>()?.to_unix_duration(),
    };
    Ok(Date(since_1970.as_secs()))
}
