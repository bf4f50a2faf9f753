//! The installation's record in few bytes, and the real decisions on it.
//!
//! Every decision translates to an [`Installation`], asks `store_writer::protocol`, and translates
//! back. Times are kept as ages, so that states which differ by the hour alone are one state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

use secrecy::SecretString;
use store::record::StoredAccess;
use store::seal::Sealed;
use store::{Generation, InstallationId, Status, Timestamp, UserType};
use store_writer::grant::{self, Fingerprint, Grant};
use store_writer::installation::{
    self, Alternate, Chain, Installation, IntentId, LastError, LateReader, Refused,
};
use store_writer::protocol::{self, Begin, Commit, Give, Refusal, Tokens, Verdict};

use crate::system::{Attempt, AttemptId, BrokerId};

/// A lease and an intent end within it; GHL's grace takes two.
pub(crate) const TICK: Duration = Duration::from_secs(15);
/// Ages are not told apart from here on: longer than any grace.
pub(crate) const OLD: u8 = 2;

/// A refresh token's number in GHL's chain. The access token beside it has the same.
pub(crate) type Token = u8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Link {
    pub(crate) generation: u8,
    pub(crate) token: Token,
}

/// What GHL answered to a spent link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Answer {
    pub(crate) spent: Link,
    pub(crate) token: Token,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Intent {
    pub(crate) id: AttemptId,
    pub(crate) holder: BrokerId,
    /// Whether its window is still open.
    pub(crate) is_open: bool,
    /// Ticks since the token may first have been spent.
    pub(crate) age: u8,
    pub(crate) is_repeat: bool,
    /// The broker that still reads a late answer, and the ticks until its note expires.
    pub(crate) reader: Option<(BrokerId, u8)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) link: Link,
    pub(crate) status: Status,
    /// How often in a row GHL refused the link, beyond `before`.
    pub(crate) refusals: u8,
    /// Refusals that every link has behind it.
    pub(crate) before: u8,
    pub(crate) intent: Option<Intent>,
    pub(crate) alternates: BTreeSet<Answer>,
}

impl Record {
    /// As the customer's consent left it.
    pub(crate) fn enrolled(before: u8) -> Self {
        Self {
            link: Link {
                generation: 1,
                token: 1,
            },
            status: Status::Active,
            refusals: 0,
            before,
            intent: None,
            alternates: BTreeSet::new(),
        }
    }

    /// The record with the intent in it, where `holder` may spend the current link now.
    pub(crate) fn begin(
        &self,
        id: AttemptId,
        holder: BrokerId,
        is_settling: bool,
    ) -> Option<(Self, Intent)> {
        let intent = installation::Intent {
            id: intent_id(id),
            holder: name(holder),
            opened_at: NOW,
            until: NOW + TICK,
            first_spent_at: NOW,
            late: None,
        };
        let attempt = protocol::Attempt {
            intent,
            unless_past: None,
            is_settling,
            may_spend_new: true,
            may_try_invalid: false,
            grace: protocol::DEFAULT_GRACE,
        };
        match protocol::begin(&self.installation(), attempt, NOW) {
            Begin::Go { next, .. } => {
                let next = self.with(&next);
                next.intent.map(|intent| (next, intent))
            }
            Begin::Cap { .. } | Begin::Held => {
                unreachable!("clocks are right, and there is no outage")
            }
            Begin::Busy { .. } | Begin::Superseded | Begin::NotRefreshable(_) => None,
        }
    }

    /// The record with the answer in it; `None` where it stays as it is.
    pub(crate) fn commit(&self, answer: Answer) -> Option<Self> {
        let grant = grant(answer);
        let tokens = tokens(answer);
        match protocol::commit(&self.installation(), &grant, tokens, NOW, NOW) {
            Commit::Apply(next) | Commit::Keep(next) => Some(self.with(&next)),
            Commit::Duplicate | Commit::Kept => None,
        }
    }

    /// The record after the attempt `id` on `link` got no token; `None` where that is old news.
    /// `reader`: who goes on reading its answer.
    pub(crate) fn give_back(
        &self,
        link: Link,
        id: AttemptId,
        refusal: Refusal,
        reader: Option<BrokerId>,
    ) -> Option<Self> {
        let verdict = Verdict {
            refusal,
            error: LastError::new("", "", NOW),
            retry_in: Duration::ZERO,
            late_reader: reader.map(name),
        };
        let (current, link) = (self.installation(), real_link(link));
        match protocol::give_back(&current, &link, &intent_id(id), &verdict, NOW) {
            Give::Apply(next) => Some(self.with(&next)),
            Give::Superseded => None,
            Give::Adopt(kept) => {
                let answer = answer(&current.alternates[&kept].grant);
                protocol::adopt(&current, &link, &grant(answer), tokens(answer), NOW)
                    .map(|next| self.with(&next))
            }
        }
    }

    /// The record after the process of the attempt `id` is known to have died.
    pub(crate) fn abandon(&self, id: AttemptId, spent: Link, holder: BrokerId) -> Option<Self> {
        let (intent, spent) = (intent_id(id), generation(spent.generation));
        let current = self.installation();
        protocol::abandon(&current, &intent, spent, &name(holder), NOW).map(|next| self.with(&next))
    }

    /// The record after `reader` said that it still reads a late answer of the link, or does not.
    pub(crate) fn read_late(&self, link: Link, reader: BrokerId, is_reading: bool) -> Option<Self> {
        let (current, link) = (self.installation(), real_link(link));
        protocol::read_late(&current, &link, &name(reader), is_reading, NOW)
            .map(|next| self.with(&next))
    }

    /// The attempt of which nobody knows what came, and its age in ticks.
    pub(crate) fn in_doubt(&self) -> Option<(Attempt, u8)> {
        protocol::in_doubt(&self.installation(), NOW)?;
        let intent = self.intent?;
        let attempt = Attempt {
            id: intent.id,
            link: self.link,
            is_repeat: true,
        };
        Some((attempt, intent.age))
    }

    /// Time passes.
    pub(crate) fn tick(&mut self) {
        if let Some(intent) = &mut self.intent {
            intent.is_open = false;
            intent.age = OLD.min(intent.age + 1);
            intent.reader = intent
                .reader
                .and_then(|(reader, left)| (left > 1).then(|| (reader, left - 1)));
        }
    }

    fn installation(&self) -> Installation {
        let alternates = self.alternates.iter().map(|kept| {
            let alternate = Alternate {
                spent_generation: generation(kept.spent.generation),
                grant: sealed(*kept),
            };
            (fingerprint(kept.token), alternate)
        });
        Installation {
            id: ID.clone(),
            access: StoredAccess {
                token: Sealed::from_bytes(vec![self.link.token]),
                expires_at: Some(NOW),
                lifetime: TICK,
                generation: generation(self.link.generation),
                status: self.status,
                location: None,
                company: None,
                user_type: UserType::Location,
                scopes: String::new(),
            },
            chain: Some(Chain {
                consent: CONSENT.to_owned(),
                fingerprint: fingerprint(self.link.token),
                refresh_token: Sealed::from_bytes(vec![self.link.token]),
            }),
            intent: self.intent.map(real_intent),
            alternates: alternates.collect::<BTreeMap<_, _>>(),
            failures: 0,
            refused: Some(Refused {
                generation: generation(self.link.generation),
                times: u32::from(self.before + self.refusals),
                since: NOW,
                after_lost_answer: false,
            }),
            last_error: None,
            installed_at: NOW,
            refreshed_at: None,
            consented_at: NOW,
            due: None,
        }
    }

    /// This record after a decision.
    fn with(&self, installation: &Installation) -> Self {
        let chain = installation.chain.as_ref().expect("never static");
        let kept = installation.alternates.values();
        Self {
            link: Link {
                generation: number(installation.access.generation),
                token: chain.refresh_token.as_bytes()[0],
            },
            status: installation.access.status,
            refusals: installation.refused.as_ref().map_or(0, |refused| {
                let more = refused.times.saturating_sub(self.before.into());
                u8::try_from(more).expect("an invalid one is not tried again")
            }),
            before: self.before,
            intent: installation.intent.as_ref().map(intent),
            alternates: kept.map(|alternate| answer(&alternate.grant)).collect(),
        }
    }
}

/// Decisions are always made now.
const NOW: Timestamp = Timestamp::from_millis(1_000_000);
/// Two attempts in one tick are not at one moment.
const MOMENT: Duration = Duration::from_millis(1);
const CONSENT: &str = "consent";

static ID: LazyLock<InstallationId> = LazyLock::new(InstallationId::random);

static FINGERPRINTS: LazyLock<[Fingerprint; 8]> =
    LazyLock::new(|| std::array::from_fn(|token| Fingerprint::of(&secret(token))));

fn secret(token: usize) -> SecretString {
    SecretString::from(format!("r{token}"))
}

fn fingerprint(token: Token) -> Fingerprint {
    FINGERPRINTS[usize::from(token)].clone()
}

fn generation(number: u8) -> Generation {
    (1..number).fold(Generation::FIRST, |generation, _| generation.next())
}

fn number(generation: Generation) -> u8 {
    let text = generation.to_string();
    text.parse().expect("a model has few generations")
}

fn name(broker: BrokerId) -> String {
    broker.to_string()
}

fn intent_id(id: AttemptId) -> IntentId {
    let Ok(id) = id.to_string().parse();
    id
}

fn real_intent(intent: Intent) -> installation::Intent {
    let first_spent_at = NOW - TICK * u32::from(intent.age) - MOMENT;
    installation::Intent {
        id: intent_id(intent.id),
        holder: name(intent.holder),
        opened_at: match intent.is_repeat {
            true => first_spent_at + MOMENT,
            false => first_spent_at,
        },
        until: match intent.is_open {
            true => NOW + TICK,
            false => NOW,
        },
        first_spent_at,
        late: intent.reader.map(|(reader, left)| LateReader {
            broker: name(reader),
            until: NOW + TICK * u32::from(left),
        }),
    }
}

fn intent(real: &installation::Intent) -> Intent {
    let age = NOW.since(real.first_spent_at).as_secs() / TICK.as_secs();
    let made = "made from a number";
    Intent {
        id: real.id.as_str().parse().expect(made),
        holder: real.holder.parse().expect(made),
        is_open: NOW < real.until,
        age: u8::try_from(age).map_or(OLD, |age| age.min(OLD)),
        is_repeat: real.is_repeat(),
        reader: real.late.as_ref().map(|late| {
            let left = late.until.since(NOW).as_secs() / TICK.as_secs();
            let reader = late.broker.parse().expect(made);
            (reader, u8::try_from(left).expect("a note is short"))
        }),
    }
}

fn real_link(link: Link) -> grant::Link {
    grant::Link {
        consent: CONSENT.to_owned(),
        generation: generation(link.generation),
        fingerprint: fingerprint(link.token),
    }
}

fn grant(answer: Answer) -> Grant {
    Grant {
        installation: ID.clone(),
        spent: real_link(answer.spent),
        access_token: secret(answer.token.into()),
        refresh_token: secret(answer.token.into()),
        expires_at: NOW,
        lifetime: TICK,
        scopes: None,
    }
}

fn tokens(answer: Answer) -> Tokens {
    Tokens {
        access: Sealed::from_bytes(vec![answer.token]),
        refresh: Sealed::from_bytes(vec![answer.token]),
        grant: sealed(answer),
    }
}

fn sealed(answer: Answer) -> Sealed {
    Sealed::from_bytes(vec![
        answer.spent.generation,
        answer.spent.token,
        answer.token,
    ])
}

fn answer(sealed: &Sealed) -> Answer {
    let [generation, spent, token] = *sealed.as_bytes() else {
        unreachable!("sealed above")
    };
    Answer {
        spent: Link {
            generation,
            token: spent,
        },
        token,
    }
}
