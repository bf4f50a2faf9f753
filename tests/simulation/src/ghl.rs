//! Simulated GHL: single-use refresh tokens, the grace period in which it replays a response, and its
//! failures.

mod responses;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ghl::Failure;
use ghl::token_endpoint::{HttpResponse, PendingResponse, Transport};
use tokio::sync::oneshot;
use tokio::time::sleep;
use url::Url;

use super::world::{World, lock};
pub(super) use responses::{Shape, location};

/// The range of GHL's response times when it is healthy.
const SERVICE_TIME: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(400));
/// The range of the network delay between a broker and GHL, in one direction.
const ONE_WAY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(60));

/// A failure mode of GHL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GhlFailure {
    /// It responds correctly after this long.
    Slow(Duration),
    /// It responds with a server error, before or after it spent the token.
    Fails {
        status: u16,
        is_spent: bool,
    },
    /// The connection breaks after the request was sent.
    Resets {
        is_spent: bool,
    },
    /// It spends the token, and no response follows.
    Hangs,
    /// It refuses a valid token this many times.
    Refuses(u32),
    /// It refuses every token.
    RefusesAll,
    /// It grants in an undocumented shape that integrators have seen.
    Undocumented(Shape),
    Overloaded {
        retry_after: Option<u64>,
    },
    /// No request can be sent.
    Unreachable,
}

impl GhlFailure {
    /// Whether it can lose a response for good, without a grace period.
    pub(super) fn loses_responses(self) -> bool {
        match self {
            Self::Fails { is_spent, .. } | Self::Resets { is_spent } => is_spent,
            Self::Hangs | Self::Undocumented(Shape::Unreadable) => true,
            Self::Slow(_)
            | Self::Refuses(_)
            | Self::RefusesAll
            | Self::Undocumented(_)
            | Self::Overloaded { .. }
            | Self::Unreachable => false,
        }
    }
}

/// A refresh token: the customer, and its position in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Token {
    pub(super) customer: usize,
    pub(super) link: u32,
}

impl Token {
    fn parse(text: &str) -> Option<Self> {
        let (customer, link) = text.strip_prefix("r-")?.split_once('-')?;
        Some(Self {
            customer: customer.parse().ok()?,
            link: link.parse().ok()?,
        })
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r-{}-{}", self.customer, self.link)
    }
}

#[derive(Debug)]
pub(super) struct Ghl {
    world: World,
    grace: Duration,
    lifetime: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: Vec<GhlFailure>,
    customers: Vec<Customer>,
    /// Calls in progress.
    open: BTreeMap<u64, Open>,
    calls: u64,
    /// The most concurrent calls of each machine.
    peaks: BTreeMap<usize, usize>,
}

#[derive(Debug, Default)]
struct Customer {
    /// The position of the valid refresh token.
    link: u32,
    /// When each earlier token was spent.
    spent: Vec<Duration>,
    /// How often a valid token was refused during this failure.
    refused: u32,
}

/// A call in progress, until its broker drops it or has its response.
#[derive(Debug, Clone, Copy)]
struct Open {
    machine: usize,
    token: Token,
    sent_at: Duration,
    is_repeated: bool,
    /// No response will arrive.
    never_responds: bool,
}

/// The reply to a request, and its delay.
struct Reply {
    after: Duration,
    kind: ReplyKind,
}

enum ReplyKind {
    Response(HttpResponse),
    Reset,
    Nothing,
}

impl Ghl {
    pub(super) fn new(world: World, customers: usize, grace: Duration, lifetime: Duration) -> Self {
        let state = State {
            customers: (0..customers).map(|_| Customer::default()).collect(),
            ..State::default()
        };
        Self {
            world,
            grace,
            lifetime,
            state: Mutex::new(state),
        }
    }

    pub(super) fn current(&self, customer: usize) -> Token {
        let link = lock(&self.state).customers[customer].link;
        Token { customer, link }
    }

    /// An access token contains its expiry, so that every part can check whether GHL would accept it.
    pub(super) fn access_token(customer: usize, ends: Duration) -> String {
        format!("a-{customer}-{}", ends.as_millis())
    }

    /// When GHL stops accepting an access token.
    pub(super) fn end_of(access_token: &str) -> Option<Duration> {
        let (_, ends) = access_token.rsplit_once('-')?;
        ends.parse().ok().map(Duration::from_millis)
    }

    pub(super) fn begin(&self, failure: GhlFailure) {
        let mut state = lock(&self.state);
        state.failures.push(failure);
        for customer in &mut state.customers {
            customer.refused = 0;
        }
    }

    pub(super) fn end(&self, failure: GhlFailure) {
        let mut state = lock(&self.state);
        if let Some(at) = state.failures.iter().position(|other| *other == failure) {
            state.failures.remove(at);
        }
    }

    /// The calls in progress of `machine`, or of all machines.
    pub(super) fn open(&self, machine: Option<usize>) -> usize {
        let state = lock(&self.state);
        let open = state.open.values();
        open.filter(|call| machine.is_none_or(|machine| call.machine == machine))
            .count()
    }

    /// The most concurrent calls of a machine.
    pub(super) fn peak(&self, machine: usize) -> usize {
        let state = lock(&self.state);
        state.peaks.get(&machine).copied().unwrap_or_default()
    }

    /// Whether a call in progress may still return `successor`, or a retry may.
    pub(super) fn may_still_return(&self, successor: Token) -> bool {
        let now = self.world.now();
        let state = lock(&self.state);
        let is_open = state.open.values().any(|call| {
            !call.never_responds
                && call.token.customer == successor.customer
                && call.token.link + 1 == successor.link
        });
        let spent = state.customers[successor.customer].spent.last();
        is_open || spent.is_some_and(|at| now < *at + self.grace)
    }

    /// A broker sends a token. `None` if GHL is unreachable.
    fn send(&self, machine: usize, token: Token) -> Option<u64> {
        let now = self.world.now();
        let mut state = lock(&self.state);
        if state.failures.contains(&GhlFailure::Unreachable) {
            return None;
        }
        let mut repeats = None;
        for open in state.open.values_mut() {
            if open.machine == machine && open.token == token {
                let is_late = now >= open.sent_at + self.grace;
                repeats = Some((open.sent_at, is_late || open.is_repeated));
                open.is_repeated = true;
                break;
            }
        }
        let call = state.calls;
        state.calls += 1;
        state.open.insert(
            call,
            Open {
                machine,
                token,
                sent_at: now,
                is_repeated: false,
                never_responds: false,
            },
        );
        let open = state.open.values();
        let open = open.filter(|open| open.machine == machine).count();
        let peak = state.peaks.entry(machine).or_default();
        *peak = open.max(*peak);
        drop(state);
        match repeats {
            Some((sent_at, true)) => self.world.violation(format!(
                "broker {machine} sends {token} again while its earlier call of {:.3} is open",
                sent_at.as_secs_f64()
            )),
            Some((_, false)) | None => {
                self.world
                    .log(format_args!("ghl: broker {machine} sends {token}"));
            }
        }
        Some(call)
    }

    /// A token arrives at GHL.
    fn receive(&self, token: Token) -> Reply {
        let now = self.world.now();
        let service_time = self.world.between(SERVICE_TIME.0, SERVICE_TIME.1);
        let mut state = lock(&self.state);
        let State {
            failures,
            customers,
            ..
        } = &mut *state;
        let customer = &mut customers[token.customer];
        let failure = failures.first().copied();
        let is_current = token.link == customer.link;
        let (after, kind) = match failure {
            Some(GhlFailure::Slow(after)) => (
                after,
                ReplyKind::Response(self.grant(customer, token, now, None)),
            ),
            Some(GhlFailure::Fails { status, is_spent }) => {
                if is_spent {
                    self.grant(customer, token, now, None);
                }
                (
                    service_time,
                    ReplyKind::Response(responses::failure(status, None)),
                )
            }
            Some(GhlFailure::Resets { is_spent }) => {
                if is_spent {
                    self.grant(customer, token, now, None);
                }
                (service_time, ReplyKind::Reset)
            }
            Some(GhlFailure::Hangs) => {
                self.grant(customer, token, now, None);
                (service_time, ReplyKind::Nothing)
            }
            Some(GhlFailure::Refuses(times)) if is_current && customer.refused < times => {
                customer.refused += 1;
                (service_time, ReplyKind::Response(responses::refusal()))
            }
            Some(GhlFailure::RefusesAll) => {
                (service_time, ReplyKind::Response(responses::refusal()))
            }
            Some(GhlFailure::Undocumented(shape)) => {
                let answer = self.grant(customer, token, now, Some(shape));
                (service_time, ReplyKind::Response(answer))
            }
            Some(GhlFailure::Overloaded { retry_after }) => (
                service_time,
                ReplyKind::Response(responses::failure(429, retry_after)),
            ),
            // Requests that were sent before GHL became unreachable still arrive.
            Some(GhlFailure::Refuses(_) | GhlFailure::Unreachable) | None => (
                service_time,
                ReplyKind::Response(self.grant(customer, token, now, None)),
            ),
        };
        drop(state);
        self.world.log(format_args!(
            "ghl: {token} arrives{}",
            if is_current { "" } else { ", spent before" }
        ));
        Reply { after, kind }
    }

    fn hangs(&self, call: u64) {
        if let Some(call) = lock(&self.state).open.get_mut(&call) {
            call.never_responds = true;
        }
    }

    /// Spends the token, replays its response, or refuses it.
    fn grant(
        &self,
        customer: &mut Customer,
        token: Token,
        now: Duration,
        shape: Option<Shape>,
    ) -> HttpResponse {
        if token.link == customer.link {
            customer.link += 1;
            customer.spent.push(now);
        } else {
            let spent = customer.spent.get(token.link as usize);
            if spent.is_none_or(|at| now >= *at + self.grace) {
                return responses::refusal();
            }
        }
        let successor = Token {
            link: token.link + 1,
            ..token
        };
        let access = Self::access_token(token.customer, now + self.lifetime);
        responses::granted(&access, successor, self.lifetime, shape)
    }
}

/// The connection of one machine to GHL.
#[derive(Debug, Clone)]
pub(super) struct GhlConnection {
    ghl: Arc<Ghl>,
    machine: usize,
}

impl GhlConnection {
    pub(super) fn new(ghl: Arc<Ghl>, machine: usize) -> Self {
        Self { ghl, machine }
    }
}

/// A call is open until this is dropped.
struct Call {
    ghl: Arc<Ghl>,
    number: u64,
}

impl Drop for Call {
    fn drop(&mut self) {
        lock(&self.ghl.state).open.remove(&self.number);
    }
}

impl Transport for GhlConnection {
    fn post(&self, _: &Url, form: &[(&str, &str)]) -> PendingResponse {
        let token = form.iter().find(|(name, _)| *name == "refresh_token");
        let token = token.and_then(|(_, token)| Token::parse(token));
        let Self { ghl, machine } = self.clone();
        Box::pin(async move {
            let Some(token) = token else {
                return Ok(responses::refusal());
            };
            let Some(number) = ghl.send(machine, token) else {
                return Err(Failure::NotSent("connection refused".into()));
            };
            let _call = Call {
                ghl: ghl.clone(),
                number,
            };
            let (there, back) = (
                ghl.world.between(ONE_WAY.0, ONE_WAY.1),
                ghl.world.between(ONE_WAY.0, ONE_WAY.1),
            );
            let (answer, answered) = oneshot::channel();
            tokio::spawn(async move {
                sleep(there).await;
                let Reply { after, kind } = ghl.receive(token);
                sleep(after + back).await;
                let came = match kind {
                    ReplyKind::Response(response) => Ok(response),
                    ReplyKind::Reset => Err(Failure::Lost("connection reset".into())),
                    // Waits until the broker drops the call.
                    ReplyKind::Nothing => {
                        ghl.hangs(number);
                        std::future::pending().await
                    }
                };
                let _ = answer.send(came);
            });
            answered
                .await
                .unwrap_or_else(|_| Err(Failure::Lost("connection closed".into())))
        })
    }
}
