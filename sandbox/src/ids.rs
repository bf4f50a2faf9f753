//! New ids: unique across restarts, and unpredictable without the app's secret.

use std::sync::atomic::{AtomicU64, Ordering};

use ring::hmac;

/// Derives ids from a counter, so that creating one can neither fail nor block.
#[derive(Debug)]
pub(crate) struct Ids {
    key: hmac::Key,
    next: AtomicU64,
}

impl Ids {
    /// The clock sets the upper bits of the counter. A restarted sandbox repeats no id unless it created
    /// more than a million per millisecond.
    pub(crate) fn new(secret: &[u8], now_ms: u64) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
            next: AtomicU64::new(now_ms << 20),
        }
    }

    /// A serial that is higher than every earlier one.
    pub(crate) fn serial(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// `length` hexadecimal digits, up to 64.
    pub(crate) fn hex(&self, length: usize) -> String {
        let serial = self.serial().to_be_bytes();
        let mut text = hex(hmac::sign(&self.key, &serial).as_ref());
        text.truncate(length);
        text
    }

    /// 20 to 32 hexadecimal digits that sort by creation time, as the ids of GHL's records do.
    pub(crate) fn record(&self, length: usize) -> String {
        let mut text = format!("{:016x}", self.serial());
        text.push_str(&self.hex(length.saturating_sub(text.len())));
        text
    }

    pub(crate) fn number(&self) -> u64 {
        let serial = self.serial().to_be_bytes();
        let tag = hmac::sign(&self.key, &serial);
        tag.as_ref()
            .iter()
            .take(8)
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// In the form of a UUID, as GHL's `traceId` and `webhookId` are.
    pub(crate) fn uuid(&self) -> String {
        let hex = self.hex(32);
        let (a, b, c, d, e) = (
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        );
        format!("{a}-{b}-{c}-{d}-{e}")
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_have_the_right_format() {
        let ids = Ids::new(b"secret", 5);
        assert_ne!(ids.hex(24), ids.hex(24));
        assert_eq!(ids.hex(24).len(), 24);
        assert_eq!(ids.uuid().split('-').map(str::len).sum::<usize>(), 32);
        assert!(ids.serial() < ids.serial());
    }

    #[test]
    fn hexadecimal_is_lower_case_and_padded() {
        assert_eq!(hex(&[0x00, 0x0f, 0xa5]), "000fa5");
    }
}
