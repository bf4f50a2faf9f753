//! Decides whether a location's next call may be sent now, from GHL's rate limit headers. It is pure.
//!
//! GHL counts a location's calls in windows. Each response says how many calls of the current window remain. That
//! includes the calls of other replicas, so replicas share a limit by these headers alone. No response says when its
//! window began. Therefore:
//!
//! - A window is assumed to end one interval after our first call in it, since the window began before that call
//!   arrived. If GHL reports that our call was the first of the window, the window may have begun as late as the
//!   response arrived. So a replica that joins one window late joins the next one earlier, and none falls behind for
//!   long.
//! - A higher remaining count means a new window, but only if the call that reports it was sent after the earlier
//!   response arrived. Responses can overtake each other.
//! - A reported count is already old when it arrives, since other replicas have sent calls meanwhile. So a replica
//!   with a smaller recent share keeps fewer of the remaining calls in flight.
//! - After an exhausted window, all replicas wait for the next one. One call probes whether it has begun before the
//!   others follow.

use std::time::Duration;

use tokio::time::Instant;

use super::rate_limit_headers::RateLimitHeaders;

/// GHL's documented limit, assumed until a response states it.
const MAX: u32 = 100;
const INTERVAL: Duration = Duration::from_secs(10);

/// Our assumed share of a window, if the window before it was not exhausted.
const ASSUMED_SHARE: Share = Share { own: 10, all: 20 };

/// How many calls per interval probe for a new window, if the start of the last one is unknown.
const PROBES_PER_INTERVAL: u32 = 8;

/// The longest `Retry-After` of a 429 that is honoured, unless the interval is longer. The 429 may be about a single
/// endpoint, and one call probes afterwards whether the limit still applies.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How often a call probes whether a new day has begun. GHL does not say when its days begin.
const DAY_PROBE_INTERVAL: Duration = Duration::from_secs(60);

/// The known state of one location's limits.
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
    /// Wait until this time, or until the next response arrives.
    WaitUntil(Instant),
    /// The daily limit is exhausted. At this time one call is admitted to probe it.
    DailyLimit(Instant),
}

/// An admitted call without a response yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CountedCall {
    window: u64,
    at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knowledge {
    /// No response arrived yet, so the limit is assumed.
    Assumed,
    /// Responses state the limit.
    Reported,
    /// Responses state no limit.
    Unlimited,
}

#[derive(Debug)]
struct Window {
    number: u64,
    /// `None` before its first call.
    ends: Option<Instant>,
    /// The lowest reported count, or the whole limit before the first report.
    remaining: u32,
    reported_at: Option<Instant>,
    /// Calls sent in this window and not answered. Calls of earlier windows are not counted.
    in_flight: u32,
    /// Set if a call was refused and the end of the window is unknown.
    not_before: Option<Instant>,
    /// Our calls in this window, as far as known.
    own: u32,
    /// The last window was exhausted, so other replicas wait for this one, too.
    is_contended: bool,
    /// Our share of the exhausted windows before this one.
    before: Share,
}

/// Our calls and all calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    own: u32,
    all: u32,
}

#[derive(Debug, Default)]
struct Today {
    remaining: Option<u32>,
    reported_at: Option<Instant>,
    /// When to probe again. Set while no calls remain.
    probe_at: Option<Instant>,
}

impl RateWindow {
    pub(super) fn new() -> Self {
        Self {
            max: MAX,
            interval: INTERVAL,
            knowledge: Knowledge::Assumed,
            window: Window::new(0, MAX),
            today: Today::default(),
        }
    }

    /// Admits a call, or returns how long it has to wait. An admitted call counts as in flight until
    /// [`learn`](Self::learn) or [`forget`](Self::forget), or until its window ends.
    pub(super) fn admit(&mut self, now: Instant) -> Decision {
        if let Some(probe_at) = self.today.probe_at
            && now < probe_at
        {
            return Decision::DailyLimit(probe_at);
        }
        if self.window.ends.is_some_and(|ends| now >= ends) {
            self.begin_window(self.window.remaining == 0);
        }
        if let Some(until) = self.blocked_until(now) {
            return Decision::WaitUntil(until);
        }
        if let Some(probe_at) = &mut self.today.probe_at {
            *probe_at = now + DAY_PROBE_INTERVAL;
        }
        self.window.in_flight += 1;
        self.window.ends.get_or_insert(now + self.interval);
        Decision::Go(CountedCall {
            window: self.window.number,
            at: now,
        })
    }

    /// Updates the state from the headers of a response.
    pub(super) fn learn(&mut self, sent: CountedCall, headers: &RateLimitHeaders, now: Instant) {
        self.forget(sent);
        self.max = headers.max.unwrap_or(self.max);
        self.interval = headers.interval.unwrap_or(self.interval);
        if let Some(remaining) = headers.remaining_today {
            self.today.learn(remaining, sent.at, now);
        }
        match (headers.is_refusal, headers.remaining) {
            (true, _) => {
                self.knowledge = Knowledge::Reported;
                let is_for_today = headers.remaining_today == Some(0);
                if sent.window == self.window.number && !is_for_today {
                    self.refused(headers.retry_after, now);
                }
            }
            (false, Some(remaining)) => {
                self.knowledge = Knowledge::Reported;
                if sent.window == self.window.number {
                    self.left(remaining, sent, now);
                    self.window.own += 1;
                }
            }
            (false, None) if self.knowledge == Knowledge::Assumed => {
                self.knowledge = Knowledge::Unlimited;
            }
            (false, None) => {}
        }
    }

    /// An admitted call was not sent.
    pub(super) fn forget(&mut self, sent: CountedCall) {
        if sent.window == self.window.number {
            self.window.in_flight = self.window.in_flight.saturating_sub(1);
        }
    }

    /// The earliest time at which a call with `ahead` others before it can be sent.
    pub(super) fn soonest(&self, ahead: u32, now: Instant) -> Instant {
        let window = &self.window;
        let (left, ends) = match window.ends {
            Some(ends) if now < ends => (window.remaining, ends),
            Some(_) | None => (self.max, now + self.interval),
        };
        match (self.knowledge, ahead.checked_sub(left)) {
            (Knowledge::Unlimited, _) => now,
            (Knowledge::Assumed | Knowledge::Reported, None) => window
                .not_before
                .map_or(now, |not_before| not_before.max(now)),
            (Knowledge::Assumed | Knowledge::Reported, Some(beyond)) => {
                ends + self.interval * (beyond / self.max)
            }
        }
    }

    /// Requests per interval, and that interval.
    pub(super) fn rate(&self) -> (u32, Duration) {
        (self.max, self.interval)
    }

    /// Until when no call may be sent, unless a response changes that.
    fn blocked_until(&self, now: Instant) -> Option<Instant> {
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

    /// How many calls may be in flight.
    fn allowed(&self) -> u32 {
        let window = &self.window;
        let today = self.today.remaining.filter(|left| *left > 0);
        match window.remaining.min(today.unwrap_or(u32::MAX)) {
            0 => 0,
            _ if window.is_contended && window.reported_at.is_none() => 1,
            left => self.share().of(left).max(1),
        }
    }

    /// Our share of this window and of those before.
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
            ASSUMED_SHARE
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
        match self.window.reported_at {
            Some(reported_at) if remaining > self.window.remaining => {
                if sent.at < reported_at {
                    return;
                }
                self.begin_window(false);
                self.window.ends = Some(since + self.interval);
            }
            Some(_) | None if is_opener => self.window.ends = Some(since + self.interval),
            Some(_) => {}
            // The interval may differ from the assumed one.
            None => {
                let ends = since + self.interval;
                let assumed = self.window.ends.unwrap_or(ends);
                self.window.ends = Some(assumed.min(ends));
            }
        }
        self.window.remaining = remaining;
        self.window.reported_at = Some(now);
        self.window.not_before = None;
    }

    fn refused(&mut self, retry_after: Option<Duration>, now: Instant) {
        let (soonest, latest) = (
            self.interval / PROBES_PER_INTERVAL,
            self.interval.max(LONGEST_PAUSE),
        );
        let again = retry_after.map(|after| now + after.clamp(soonest, latest));
        let window = &mut self.window;
        if window.reported_at.is_some() {
            window.remaining = 0;
            window.reported_at = Some(now);
            window.ends = again.or(window.ends);
        } else {
            // The start of the exhausted window is unknown.
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
            reported_at: None,
            in_flight: 0,
            not_before: None,
            own: 0,
            is_contended: false,
            before: ASSUMED_SHARE,
        }
    }
}

impl Share {
    /// Halves the weight of older windows.
    fn faded(self) -> Self {
        Self {
            own: self.own.div_ceil(2),
            all: self.all.div_ceil(2),
        }
    }

    /// How many of the `left` remaining calls may be in flight from this replica. All of them if there is no other
    /// replica. Otherwise our share of our share, since the others have sent calls since the report.
    fn of(self, left: u32) -> u32 {
        let share = |calls: u64| calls * u64::from(self.own) / u64::from(self.all).max(1);
        u32::try_from(share(share(left.into()))).unwrap_or(left)
    }
}

impl Today {
    fn learn(&mut self, remaining: u32, sent_at: Instant, now: Instant) {
        let is_more = self.remaining.is_some_and(|known| remaining > known);
        if is_more
            && self
                .reported_at
                .is_some_and(|reported_at| sent_at < reported_at)
        {
            return;
        }
        self.probe_at = (remaining == 0).then_some(now + DAY_PROBE_INTERVAL);
        self.remaining = Some(remaining);
        self.reported_at = Some(now);
    }
}

#[cfg(test)]
mod tests;
