//! A compact form of the installation's record, and the real decisions on it.
//!
//! Every decision converts the record to an [`Installation`], calls `store_writer::protocol`, and converts
//! the result back. Times are stored as ages, so that states which differ only by a shift in time are equal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

use secrecy::SecretString;
use store::record::StoredAccess;
use store::seal::Sealed;
use store::{AppName, Generation, InstallationId, Status, Timestamp, UserType};
use store_writer::grant::{self, Fingerprint, Grant};
use store_writer::installation::{
    self, Alternate, Installation, IntentId, LastError, LateReader, RefusalCount, TokenChain,
};
use store_writer::protocol::{
    self, AttemptFailure, Begin, Commit, FailureClass, FailureDecision, Tokens,
};

use crate::system::{Attempt, AttemptId, BrokerId};

/// One step of time. Leases and intents end within it, and GHL's grace period takes two.
pub(crate) const TICK: Duration = Duration::from_secs(15);
/// The largest age that is distinguished: longer than any grace period.
pub(crate) const OLD: u8 = 2;

/// The number of a refresh token in GHL's chain. The access token of the pair has the same number.
pub(crate) type Token = u8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ChainLink {
    pub(crate) generation: u8,
    pub(crate) token: Token,
}

/// GHL's response to a spent link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TokenResponse {
    pub(crate) spent: ChainLink,
    pub(crate) token: Token,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Intent {
    pub(crate) id: AttemptId,
    pub(crate) holder: BrokerId,
    /// Whether its window is open.
    pub(crate) is_open: bool,
    /// Ticks since the token may first have been spent.
    pub(crate) age: u8,
    pub(crate) is_retry: bool,
    /// The broker that reads a late response, and the ticks until its entry expires.
    pub(crate) reader: Option<(BrokerId, u8)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) link: ChainLink,
    pub(crate) status: Status,
    /// The number of refusals in a row beyond `before`.
    pub(crate) refusals: u8,
    /// Refusals that every link starts with.
    pub(crate) before: u8,
    pub(crate) intent: Option<Intent>,
    pub(crate) alternates: BTreeSet<TokenResponse>,
}

impl Record {
    /// The record after the customer's consent.
    pub(crate) fn registered(before: u8) -> Self {
        Self {
            link: ChainLink {
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

    /// The record with the intent; `None` if `holder` may not spend the current link now.
    pub(crate) fn begin(
        &self,
        id: AttemptId,
        holder: BrokerId,
        is_after_outage: bool,
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
            is_after_outage,
            may_spend_new: true,
            may_try_invalid: false,
            grace: protocol::DEFAULT_GRACE,
        };
        match protocol::begin(&self.installation(), attempt, NOW) {
            Begin::Go { next, .. } => {
                let next = self.with(&next);
                next.intent.map(|intent| (next, intent))
            }
            Begin::Cap { .. } | Begin::Deferred => {
                unreachable!("clocks are right, and there is no outage")
            }
            Begin::Busy { .. } | Begin::Superseded | Begin::NotRefreshable(_) => None,
        }
    }

    /// The record after a commit; `None` if it does not change.
    pub(crate) fn commit(&self, response: TokenResponse) -> Option<Self> {
        let grant = grant(response);
        let tokens = tokens(response);
        match protocol::commit(&self.installation(), &grant, tokens, NOW, NOW) {
            Commit::Apply(next) | Commit::AddAlternate(next) => Some(self.with(&next)),
            Commit::Duplicate | Commit::Ignore => None,
        }
    }

    /// The record after the attempt `id` on `link` failed; `None` if it does not change. `reader` goes on
    /// reading the response.
    pub(crate) fn record_failure(
        &self,
        link: ChainLink,
        id: AttemptId,
        class: FailureClass,
        reader: Option<BrokerId>,
    ) -> Option<Self> {
        let failure = AttemptFailure {
            class,
            error: LastError::new("", "", NOW),
            retry_in: Duration::ZERO,
            late_reader: reader.map(name),
        };
        let (current, link) = (self.installation(), real_link(link));
        match protocol::record_failure(&current, &link, &intent_id(id), &failure, NOW) {
            FailureDecision::Apply(next) => Some(self.with(&next)),
            FailureDecision::Superseded => None,
            FailureDecision::Adopt(kept) => {
                let response = response(&current.alternates[&kept].grant);
                protocol::adopt(&current, &link, &grant(response), tokens(response), NOW)
                    .map(|next| self.with(&next))
            }
        }
    }

    /// The record after the process of the attempt `id` died.
    pub(crate) fn abandon(
        &self,
        id: AttemptId,
        spent: ChainLink,
        holder: BrokerId,
    ) -> Option<Self> {
        let (intent, spent) = (intent_id(id), generation(spent.generation));
        let current = self.installation();
        protocol::abandon(&current, &intent, spent, &name(holder), NOW).map(|next| self.with(&next))
    }

    /// The record after `reader` recorded that it reads a late response of the link, or that it stopped.
    pub(crate) fn record_late_reader(
        &self,
        link: ChainLink,
        reader: BrokerId,
        is_reading: bool,
    ) -> Option<Self> {
        let (current, link) = (self.installation(), real_link(link));
        protocol::record_late_reader(&current, &link, &name(reader), is_reading, NOW)
            .map(|next| self.with(&next))
    }

    /// The attempt whose response is lost, and its age in ticks.
    pub(crate) fn lost_response(&self) -> Option<(Attempt, u8)> {
        protocol::lost_response(&self.installation(), NOW)?;
        let intent = self.intent?;
        let attempt = Attempt {
            id: intent.id,
            link: self.link,
            is_retry: true,
        };
        Some((attempt, intent.age))
    }

    /// Lets one tick pass.
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
                app: AppName::default(),
                location: None,
                company: None,
                parent: None,
                user_type: UserType::Location,
                scopes: String::new(),
            },
            client: None,
            chain: Some(TokenChain {
                consent: CONSENT.to_owned(),
                fingerprint: fingerprint(self.link.token),
                refresh_token: Sealed::from_bytes(vec![self.link.token]),
            }),
            intent: self.intent.map(real_intent),
            alternates: alternates.collect::<BTreeMap<_, _>>(),
            failures: 0,
            refused: Some(RefusalCount {
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
            locations: None,
            details: None,
            granted_at: None,
            customer: store::Customer::default(),
            setting: None,
        }
    }

    /// This record with the result of a decision.
    fn with(&self, installation: &Installation) -> Self {
        let chain = installation.chain.as_ref().expect("never static");
        let kept = installation.alternates.values();
        Self {
            link: ChainLink {
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
            alternates: kept.map(|alternate| response(&alternate.grant)).collect(),
        }
    }
}

/// The time of all decisions.
const NOW: Timestamp = Timestamp::from_millis(1_000_000);
/// Separates the times of two attempts in one tick.
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
        opened_at: match intent.is_retry {
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
        is_retry: real.is_retry(),
        reader: real.late.as_ref().map(|late| {
            let left = late.until.since(NOW).as_secs() / TICK.as_secs();
            let reader = late.broker.parse().expect(made);
            (reader, u8::try_from(left).expect("a note is short"))
        }),
    }
}

fn real_link(link: ChainLink) -> grant::ChainLink {
    grant::ChainLink {
        consent: CONSENT.to_owned(),
        generation: generation(link.generation),
        fingerprint: fingerprint(link.token),
    }
}

fn grant(response: TokenResponse) -> Grant {
    Grant {
        client: None,
        installation: ID.clone(),
        spent: real_link(response.spent),
        access_token: secret(response.token.into()),
        refresh_token: secret(response.token.into()),
        expires_at: NOW,
        lifetime: TICK,
        scopes: None,
    }
}

fn tokens(response: TokenResponse) -> Tokens {
    Tokens {
        access: Sealed::from_bytes(vec![response.token]),
        refresh: Sealed::from_bytes(vec![response.token]),
        grant: sealed(response),
    }
}

fn sealed(response: TokenResponse) -> Sealed {
    Sealed::from_bytes(vec![
        response.spent.generation,
        response.spent.token,
        response.token,
    ])
}

fn response(sealed: &Sealed) -> TokenResponse {
    let [generation, spent, token] = *sealed.as_bytes() else {
        unreachable!("sealed above")
    };
    TokenResponse {
        spent: ChainLink {
            generation,
            token: spent,
        },
        token,
    }
}
