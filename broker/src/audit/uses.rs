//! Which keys were used today. Each is written to the store once a day.

use std::collections::HashMap;

use store::KeyHash;
use store::audit::Day;

/// The last uses that this broker knows of.
#[derive(Debug, Default)]
pub(super) struct Uses {
    written: HashMap<KeyHash, Day>,
    pending: HashMap<KeyHash, Day>,
}

impl Uses {
    /// Whether this use is already known.
    pub(super) fn has(&self, key: &KeyHash, day: Day) -> bool {
        let known = [&self.written, &self.pending];
        known.iter().any(|days| days.get(key) >= Some(&day))
    }

    /// Notes a use. Whether it is to be written.
    pub(super) fn note(&mut self, key: KeyHash, day: Day) -> bool {
        let is_new = !self.has(&key, day);
        if is_new {
            self.pending.insert(key, day);
        }
        is_new
    }

    /// The uses that are to be written.
    pub(super) fn pending(&self) -> Vec<(KeyHash, Day)> {
        self.pending.iter().map(|(key, day)| (*key, *day)).collect()
    }

    /// Notes that these were written.
    pub(super) fn written(&mut self, uses: &[(KeyHash, Day)]) {
        for (key, day) in uses {
            self.written.insert(*key, *day);
            if self.pending.get(key) <= Some(day) {
                self.pending.remove(key);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_of_a_key_is_written_once_a_day() {
        let mut uses = Uses::default();
        let key = KeyHash::of("k");
        let [first, second] = ["2026-11-29", "2026-11-30"].map(|day| day.parse().unwrap());
        assert!(uses.note(key, first));
        assert!(!uses.note(key, first));
        let written = uses.pending();
        assert_eq!(written, [(key, first)]);
        // The day ends while it is written.
        assert!(uses.note(key, second));
        uses.written(&written);
        assert_eq!(uses.pending(), [(key, second)]);
        uses.written(&uses.pending());
        assert!(uses.is_empty());
        for known in [first, second] {
            assert!(!uses.note(key, known));
        }
        assert!(uses.note(KeyHash::of("other"), first));
    }
}
