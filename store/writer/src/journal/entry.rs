//! One attempt, as the journal and the escrow store it.

use serde::{Deserialize, Serialize};
use store::seal::{KeyRing, Sealed};
use store::{Generation, InstallationId};

use crate::installation::IntentId;
use crate::lease::value::LeaseValue;
use crate::{grant, raw_token_response};

/// One attempt to refresh, with GHL's response if it arrived.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The attempt's intent.
    pub intent: IntentId,
    /// The installation that is refreshed.
    pub installation: InstallationId,
    /// The generation whose refresh token was spent.
    pub spent_generation: Generation,
    /// The lease of the attempt. After a crash a later process ends it.
    pub lease: Option<LeaseValue>,
    /// The sealed grant, if GHL's response arrived.
    pub answer: Option<Sealed>,
    /// Whether the response could not be used. It is then a sealed
    /// [`RawTokenResponse`](crate::raw_token_response::RawTokenResponse), for a person to examine.
    pub is_quarantined: bool,
}

impl Entry {
    /// An attempt that is about to be sent.
    #[must_use]
    pub fn asked(
        intent: IntentId,
        installation: InstallationId,
        spent_generation: Generation,
        lease: Option<LeaseValue>,
    ) -> Self {
        Self {
            intent,
            installation,
            spent_generation,
            lease,
            answer: None,
            is_quarantined: false,
        }
    }
}

impl Entry {
    /// The same attempt with its response sealed by the first key. `None` if it is, if there is no response, or
    /// if it cannot be opened.
    #[must_use]
    pub fn resealed(&self, refresh_ring: &KeyRing) -> Option<Self> {
        let (id, spent) = (&self.installation, self.spent_generation);
        let label = if self.is_quarantined {
            raw_token_response::label(id, spent)
        } else {
            grant::label(id, spent)
        };
        let resealed = refresh_ring.reseal(label, self.answer.as_ref()?).ok()?;
        resealed.map(|answer| Self {
            answer: Some(answer),
            ..self.clone()
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Head {
    installation: InstallationId,
    spent_generation: Generation,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease: Option<LeaseValue>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    set_aside: bool,
}

/// The stored form: a line of JSON, then the bytes of the sealed response, if there is one.
impl Entry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let head = Head {
            installation: self.installation.clone(),
            spent_generation: self.spent_generation,
            lease: self.lease.clone(),
            set_aside: self.is_quarantined,
        };
        let mut value = serde_json::to_vec(&head).expect("text and numbers serialize");
        if let Some(answer) = &self.answer {
            value.push(b'\n');
            value.extend_from_slice(answer.as_bytes());
        }
        value
    }

    pub(crate) fn decode(key: &str, value: &[u8]) -> Option<Self> {
        let (head, answer) = match value.iter().position(|byte| *byte == b'\n') {
            Some(end) => (
                &value[..end],
                Some(Sealed::from_bytes(value[end + 1..].to_vec())),
            ),
            None => (value, None),
        };
        let head: Head = serde_json::from_slice(head).ok()?;
        let Ok(intent) = key.parse();
        Some(Self {
            intent,
            installation: head.installation,
            spent_generation: head.spent_generation,
            lease: head.lease,
            answer,
            is_quarantined: head.set_aside,
        })
    }
}
