//! Whether a location's next call may go now: a pure decision over what GHL has told.
//!
//! GHL counts a location's calls in windows, and each of its answers tells what is left of the
//! current one. That includes what other replicas have used, so they share a budget by nothing
//! but these answers. No answer tells when the window began, so:
//!
//! - A window is taken to end one interval after the first call that we sent in it: whoever began
//!   it was there before that call arrived. Where GHL tells that our call was the first of all,
//!   it may have begun as late as its answer came. So a replica that comes late to one window
//!   comes sooner to the next, and none is left behind for long.
//! - More is left than was told before only in a new window, and only if the call that tells so
//!   was sent after the other was answered: answers overtake each other.
//! - What was told is old by the time it is heard, since others have sent meanwhile. So the
//!   smaller a replica's share was lately, the less of what is left does it have under way.
//! - After a window that was used up everybody waits for the next one. One call looks whether it
//!   has begun before the others follow.

use std::time::Duration;

use tokio::time::Instant;

use super::rate_limit_headers::RateLimitHeaders;

/// GHL's documented limit, until it tells.
const MAX: u32 = 100;
const INTERVAL: Duration = Duration::from_secs(10);

/// Of a window that comes after one with something left, half may be ours.
const PRESUMED_SHARE: Share = Share { own: 10, all: 20 };

/// How often in an interval a call looks whether a window has begun, where nobody knows when the
/// last one did.
const LOOKS: u32 = 8;

/// The longest pause that a 429 is believed to ask for, in the place of a longer interval: it may be about
/// one endpoint, and one call looks afterwards whether it lasts.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How often a call looks whether a new day has begun: GHL does not say when its days do.
const LOOK_FOR_DAY: Duration = Duration::from_secs(60);

/// What is known of one location's limits.
#[derive(Debug)]
pub(super) struct RateWindow {
    max: u32,
    interval: Duration,
    knowledge: Knowledge,
    window: Window,
    today: Today,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Go(CountedCall),
    /// Or until the next answer comes, if that is sooner.
    WaitUntil(Instant),
    /// Nothing goes today. By this moment a call is let through to see whether it is still so.
    DailyLimit(Instant),
}

/// A call that was let through, and not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CountedCall {
    window: u64,
    at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knowledge {
    /// Nothing was answered yet.
    Presumed,
    RateLimitHeaders,
    /// Answers tell of no limit.
    Unlimited,
}

#[derive(Debug)]
struct Window {
    number: u64,
    /// `None` before its first call.
    ends: Option<Instant>,
    /// The least that was told; all there can be, before anything was.
    remaining: u32,
    told_at: Option<Instant>,
    /// Calls sent in this window and not answered. Those of earlier ones were counted there.
    in_flight: u32,
    /// A call was refused, and nothing tells how long that lasts.
    not_before: Option<Instant>,
    /// Our calls among those that it had, as far as is known.
    own: u32,
    /// The last window was used up, so others wait for this one as well.
    is_contended: bool,
    /// What we had of windows that were used up before this one.
    before: Share,
}

/// How many of all calls were ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    own: u32,
    all: u32,
}

#[derive(Debug, Default)]
struct Today {
    remaining: Option<u32>,
    told_at: Option<Instant>,
    /// While nothing is left: when to look again.
    look_at: Option<Instant>,
}

impl RateWindow {
    pub(super) fn new() -> Self {
        Self {
            max: MAX,
            interval: INTERVAL,
            knowledge: Knowledge::Presumed,
            window: Window::new(0, MAX),
            today: Today::default(),
        }
    }

    /// Lets a call go, or says what it has to wait for. A call that goes counts as under way until
    /// [`learn`](Self::learn) or [`forget`](Self::forget), or else until its window ends.
    pub(super) fn admit(&mut self, now: Instant) -> Decision {
        if let Some(look_at) = self.today.look_at
            && now < look_at
        {
            return Decision::DailyLimit(look_at);
        }
        if self.window.ends.is_some_and(|ends| now >= ends) {
            self.begin_window(self.window.remaining == 0);
        }
        if let Some(until) = self.obstacle(now) {
            return Decision::WaitUntil(until);
        }
        if let Some(look_at) = &mut self.today.look_at {
            *look_at = now + LOOK_FOR_DAY;
        }
        self.window.in_flight += 1;
        self.window.ends.get_or_insert(now + self.interval);
        Decision::Go(CountedCall {
            window: self.window.number,
            at: now,
        })
    }

    /// Takes in what the answer to a call tells.
    pub(super) fn learn(&mut self, sent: CountedCall, told: &RateLimitHeaders, now: Instant) {
        self.forget(sent);
        self.max = told.max.unwrap_or(self.max);
        self.interval = told.interval.unwrap_or(self.interval);
        if let Some(remaining) = told.remaining_today {
            self.today.learn(remaining, sent.at, now);
        }
        match (told.is_refusal, told.remaining) {
            (true, _) => {
                self.knowledge = Knowledge::RateLimitHeaders;
                let is_for_today = told.remaining_today == Some(0);
                if sent.window == self.window.number && !is_for_today {
                    self.refused(told.retry_after, now);
                }
            }
            (false, Some(remaining)) => {
                self.knowledge = Knowledge::RateLimitHeaders;
                if sent.window == self.window.number {
                    self.left(remaining, sent, now);
                    self.window.own += 1;
                }
            }
            (false, None) if self.knowledge == Knowledge::Presumed => {
                self.knowledge = Knowledge::Unlimited;
            }
            (false, None) => {}
        }
    }

    /// A call did not go after all.
    pub(super) fn forget(&mut self, sent: CountedCall) {
        if sent.window == self.window.number {
            self.window.in_flight = self.window.in_flight.saturating_sub(1);
        }
    }

    /// When a call that has `ahead` others before it can go at the soonest.
    pub(super) fn soonest(&self, ahead: u32, now: Instant) -> Instant {
        let window = &self.window;
        let (left, ends) = match window.ends {
            Some(ends) if now < ends => (window.remaining, ends),
            Some(_) | None => (self.max, now + self.interval),
        };
        match (self.knowledge, ahead.checked_sub(left)) {
            (Knowledge::Unlimited, _) => now,
            (Knowledge::Presumed | Knowledge::RateLimitHeaders, None) => window
                .not_before
                .map_or(now, |not_before| not_before.max(now)),
            (Knowledge::Presumed | Knowledge::RateLimitHeaders, Some(beyond)) => {
                ends + self.interval * (beyond / self.max)
            }
        }
    }

    /// Requests per interval, and that interval.
    pub(super) fn rate(&self) -> (u32, Duration) {
        (self.max, self.interval)
    }

    /// Until when no call may go, unless an answer changes that.
    fn obstacle(&self, now: Instant) -> Option<Instant> {
        let window = &self.window;
        if self.knowledge == Knowledge::Unlimited {
            return None;
        }
        if let Some(not_before) = window.not_before
            && now < not_before
        {
            return Some(not_before);
        }
        if window.in_flight < self.allowed() {
            return None;
        }
        Some(window.ends.unwrap_or(now + self.interval))
    }

    /// How many calls may be under way.
    fn allowed(&self) -> u32 {
        let window = &self.window;
        let today = self.today.remaining.filter(|left| *left > 0);
        match window.remaining.min(today.unwrap_or(u32::MAX)) {
            0 => 0,
            _ if window.is_contended && window.told_at.is_none() => 1,
            left => self.share().of(left).max(1),
        }
    }

    /// Our part of this window and of those before.
    fn share(&self) -> Share {
        let Window { before, own, .. } = self.window;
        let used = self.max.saturating_sub(self.window.remaining);
        Share {
            own: before.own.saturating_add(own),
            all: before.all.saturating_add(used),
        }
    }

    fn begin_window(&mut self, is_contended: bool) {
        let before = if is_contended {
            self.share().faded()
        } else {
            PRESUMED_SHARE
        };
        self.window = Window {
            is_contended,
            before,
            ..Window::new(self.window.number + 1, self.max)
        };
    }

    fn left(&mut self, remaining: u32, sent: CountedCall, now: Instant) {
        let is_opener = remaining.saturating_add(1) >= self.max;
        let since = if is_opener { now } else { sent.at };
        match self.window.told_at {
            Some(told_at) if remaining > self.window.remaining => {
                if sent.at < told_at {
                    return;
                }
                self.begin_window(false);
                self.window.ends = Some(since + self.interval);
            }
            Some(_) | None if is_opener => self.window.ends = Some(since + self.interval),
            Some(_) => {}
            // The interval may have been another than it was taken for.
            None => {
                let ends = since + self.interval;
                let presumed = self.window.ends.unwrap_or(ends);
                self.window.ends = Some(presumed.min(ends));
            }
        }
        self.window.remaining = remaining;
        self.window.told_at = Some(now);
        self.window.not_before = None;
    }

    fn refused(&mut self, retry_after: Option<Duration>, now: Instant) {
        let (soonest, latest) = (self.interval / LOOKS, self.interval.max(LONGEST_PAUSE));
        let again = retry_after.map(|after| now + after.clamp(soonest, latest));
        let window = &mut self.window;
        if window.told_at.is_some() {
            window.remaining = 0;
            window.told_at = Some(now);
            window.ends = again.or(window.ends);
        } else {
            // When the window began that is used up is not known.
            self.begin_window(true);
            self.window.not_before = Some(again.unwrap_or(now + soonest));
        }
    }
}

impl Window {
    fn new(number: u64, max: u32) -> Self {
        Self {
            number,
            ends: None,
            remaining: max,
            told_at: None,
            in_flight: 0,
            not_before: None,
            own: 0,
            is_contended: false,
            before: PRESUMED_SHARE,
        }
    }
}

impl Share {
    /// Older windows count for less and less.
    fn faded(self) -> Self {
        Self {
            own: self.own.div_ceil(2),
            all: self.all.div_ceil(2),
        }
    }

    /// How many of so many left may be under way from here: all, if nobody else is there;
    /// otherwise our part of our part, as the others have sent since it was told.
    fn of(self, left: u32) -> u32 {
        let part = |calls: u64| calls * u64::from(self.own) / u64::from(self.all).max(1);
        u32::try_from(part(part(left.into()))).unwrap_or(left)
    }
}

impl Today {
    fn learn(&mut self, remaining: u32, sent_at: Instant, now: Instant) {
        let is_more = self.remaining.is_some_and(|known| remaining > known);
        if is_more && self.told_at.is_some_and(|told_at| sent_at < told_at) {
            return;
        }
        self.look_at = (remaining == 0).then_some(now + LOOK_FOR_DAY);
        self.remaining = Some(remaining);
        self.told_at = Some(now);
    }
}

#[cfg(test)]
mod tests;
