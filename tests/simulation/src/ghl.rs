//! Simulated GHL: refresh tokens that are good once, the grace in which it repeats an answer, and its
//! bad hours.

mod answers;

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
pub(super) use answers::{Shape, location};

/// How long a refresh takes at GHL when all is well.
const QUICK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(400));
/// One way between a broker and GHL.
const WIRE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(60));

/// One of GHL's bad hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// Answers correctly, after this long.
    Slow(Duration),
    /// A server error, before or after it spent the token.
    Fails {
        status: u16,
        is_spent: bool,
    },
    /// The connection breaks after the request went out.
    Resets {
        is_spent: bool,
    },
    /// Spends the token, and the connection falls silent.
    Hangs,
    /// Refuses so many times a token that is good.
    Refuses(u32),
    /// Refuses every token.
    RefusesAll,
    /// Grants, in a shape that has been seen in the wild.
    Odd(Shape),
    Overloaded {
        retry_after: Option<u64>,
    },
    /// Nothing is sent.
    Unreachable,
}

impl Mood {
    /// Whether an answer can be lost for good by it, were there no grace.
    pub(super) fn loses_answers(self) -> bool {
        match self {
            Self::Fails { is_spent, .. } | Self::Resets { is_spent } => is_spent,
            Self::Hangs | Self::Odd(Shape::Unreadable) => true,
            Self::Slow(_)
            | Self::Refuses(_)
            | Self::RefusesAll
            | Self::Odd(_)
            | Self::Overloaded { .. }
            | Self::Unreachable => false,
        }
    }
}

/// A refresh token: whose, and the how-manieth.
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
    moods: Vec<Mood>,
    customers: Vec<Customer>,
    /// Calls that brokers have under way.
    open: BTreeMap<u64, Open>,
    calls: u64,
    /// The most calls that each machine has had open at once.
    peaks: BTreeMap<usize, usize>,
}

#[derive(Debug, Default)]
struct Customer {
    /// Of the one refresh token that is good.
    link: u32,
    /// When each link before was spent.
    spent: Vec<Duration>,
    /// How often a good token was refused in this mood.
    refused: u32,
}

/// A call under way, from when it is sent until its broker has dropped it or has its answer.
#[derive(Debug, Clone, Copy)]
struct Open {
    machine: usize,
    token: Token,
    sent_at: Duration,
    is_repeated: bool,
    /// Nothing will come back.
    is_hopeless: bool,
}

/// What comes back of a request, and when.
struct Reply {
    after: Duration,
    what: Came,
}

enum Came {
    Answer(HttpResponse),
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

    /// An access token carries its end, so that anybody can see whether GHL would take it.
    pub(super) fn access_token(customer: usize, ends: Duration) -> String {
        format!("a-{customer}-{}", ends.as_millis())
    }

    /// When GHL stops taking an access token.
    pub(super) fn end_of(access_token: &str) -> Option<Duration> {
        let (_, ends) = access_token.rsplit_once('-')?;
        ends.parse().ok().map(Duration::from_millis)
    }

    pub(super) fn begin(&self, mood: Mood) {
        let mut state = lock(&self.state);
        state.moods.push(mood);
        for customer in &mut state.customers {
            customer.refused = 0;
        }
    }

    pub(super) fn end(&self, mood: Mood) {
        let mut state = lock(&self.state);
        if let Some(at) = state.moods.iter().position(|other| *other == mood) {
            state.moods.remove(at);
        }
    }

    /// How many calls `machine`, or anybody, has under way.
    pub(super) fn open(&self, machine: Option<usize>) -> usize {
        let state = lock(&self.state);
        let open = state.open.values();
        open.filter(|call| machine.is_none_or(|machine| call.machine == machine))
            .count()
    }

    /// The most calls that a machine has had open at once.
    pub(super) fn peak(&self, machine: usize) -> usize {
        let state = lock(&self.state);
        state.peaks.get(&machine).copied().unwrap_or_default()
    }

    /// Whether a call under way may still bring `successor`, or be repeated for it.
    pub(super) fn is_on_its_way(&self, successor: Token) -> bool {
        let now = self.world.now();
        let state = lock(&self.state);
        let is_open = state.open.values().any(|call| {
            !call.is_hopeless
                && call.token.customer == successor.customer
                && call.token.link + 1 == successor.link
        });
        let spent = state.customers[successor.customer].spent.last();
        is_open || spent.is_some_and(|at| now < *at + self.grace)
    }

    /// A broker sends a token; `None` where nothing leaves it.
    fn send(&self, machine: usize, token: Token) -> Option<u64> {
        let now = self.world.now();
        let mut state = lock(&self.state);
        if state.moods.contains(&Mood::Unreachable) {
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
                is_hopeless: false,
            },
        );
        let open = state.open.values();
        let open = open.filter(|open| open.machine == machine).count();
        let peak = state.peaks.entry(machine).or_default();
        *peak = open.max(*peak);
        drop(state);
        match repeats {
            Some((sent_at, true)) => self.world.violation(format!(
                "broker {machine} sends {token} again while its own call of {:.3} is open",
                sent_at.as_secs_f64()
            )),
            Some((_, false)) | None => {
                self.world
                    .log(format_args!("ghl: broker {machine} sends {token}"));
            }
        }
        Some(call)
    }

    /// A token has arrived.
    fn receive(&self, token: Token) -> Reply {
        let now = self.world.now();
        let quick = self.world.between(QUICK.0, QUICK.1);
        let mut state = lock(&self.state);
        let State {
            moods, customers, ..
        } = &mut *state;
        let customer = &mut customers[token.customer];
        let mood = moods.first().copied();
        let is_good = token.link == customer.link;
        let (after, what) = match mood {
            Some(Mood::Slow(after)) => {
                (after, Came::Answer(self.grant(customer, token, now, None)))
            }
            Some(Mood::Fails { status, is_spent }) => {
                if is_spent {
                    self.grant(customer, token, now, None);
                }
                (quick, Came::Answer(answers::failure(status, None)))
            }
            Some(Mood::Resets { is_spent }) => {
                if is_spent {
                    self.grant(customer, token, now, None);
                }
                (quick, Came::Reset)
            }
            Some(Mood::Hangs) => {
                self.grant(customer, token, now, None);
                (quick, Came::Nothing)
            }
            Some(Mood::Refuses(times)) if is_good && customer.refused < times => {
                customer.refused += 1;
                (quick, Came::Answer(answers::refusal()))
            }
            Some(Mood::RefusesAll) => (quick, Came::Answer(answers::refusal())),
            Some(Mood::Odd(shape)) => {
                let answer = self.grant(customer, token, now, Some(shape));
                (quick, Came::Answer(answer))
            }
            Some(Mood::Overloaded { retry_after }) => {
                (quick, Came::Answer(answers::failure(429, retry_after)))
            }
            // What had left before it became so arrives.
            Some(Mood::Refuses(_) | Mood::Unreachable) | None => {
                (quick, Came::Answer(self.grant(customer, token, now, None)))
            }
        };
        drop(state);
        self.world.log(format_args!(
            "ghl: {token} arrives{}",
            if is_good { "" } else { ", spent before" }
        ));
        Reply { after, what }
    }

    fn hangs(&self, call: u64) {
        if let Some(call) = lock(&self.state).open.get_mut(&call) {
            call.is_hopeless = true;
        }
    }

    /// Spends the token or repeats its answer, or refuses it.
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
                return answers::refusal();
            }
        }
        let successor = Token {
            link: token.link + 1,
            ..token
        };
        let access = Self::access_token(token.customer, now + self.lifetime);
        answers::granted(&access, successor, self.lifetime, shape)
    }
}

/// GHL as one machine reaches it.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    ghl: Arc<Ghl>,
    machine: usize,
}

impl Wire {
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

impl Transport for Wire {
    fn post(&self, _: &Url, form: &[(&str, &str)]) -> PendingResponse {
        let token = form.iter().find(|(name, _)| *name == "refresh_token");
        let token = token.and_then(|(_, token)| Token::parse(token));
        let Self { ghl, machine } = self.clone();
        Box::pin(async move {
            let Some(token) = token else {
                return Ok(answers::refusal());
            };
            let Some(number) = ghl.send(machine, token) else {
                return Err(Failure::NotSent("connection refused".into()));
            };
            let _call = Call {
                ghl: ghl.clone(),
                number,
            };
            let (there, back) = (
                ghl.world.between(WIRE.0, WIRE.1),
                ghl.world.between(WIRE.0, WIRE.1),
            );
            let (answer, answered) = oneshot::channel();
            tokio::spawn(async move {
                sleep(there).await;
                let Reply { after, what } = ghl.receive(token);
                sleep(after + back).await;
                let came = match what {
                    Came::Answer(response) => Ok(response),
                    Came::Reset => Err(Failure::Lost("connection reset".into())),
                    // Until the machine gives up.
                    Came::Nothing => {
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
