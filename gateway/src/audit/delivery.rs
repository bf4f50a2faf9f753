//! Sends reports to a broker: each second while there is something to report, and again after a failure.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use service::shutdown::Shutdown;
use store::audit::{BodyHash, Day, Event, MAX_REPORT_BYTES, Pass, Report};
use store::{KeyHash, TokenReader};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, error, info, warn};

use super::AuditQueue;
use crate::upstream::Upstream;
use crate::upstream::body::{Outgoing, read};
use crate::upstream::headers::OutboundHeaders;
use crate::upstream::outbound::Outbound;

/// How often there is a report.
const INTERVAL: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// How long a broker may take.
const BROKER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last reports are tried while no broker takes them.
const LAST_TRIES: Duration = Duration::from_secs(5);
/// The most events that wait for a broker.
const MOST_WAITING: usize = 64 * 1024;
/// The events and the keys of a report. They take far less than a broker accepts.
const BATCH: usize = 500;

/// Delivers what is in a queue.
pub(crate) struct Delivery {
    queue: Arc<AuditQueue>,
    broker: Upstream,
    reader: TokenReader,
    outbox: Mutex<Outbox>,
}

/// Events and uses that no broker has taken yet, the oldest first.
#[derive(Default)]
struct Outbox {
    events: VecDeque<Event>,
    uses: HashMap<KeyHash, Day>,
    /// Whether the last report failed.
    is_failing: bool,
}

/// Why a report was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    #[error("{0}")]
    NotSent(String),
    #[error("the broker did not answer in time")]
    Late,
    #[error("the broker answered {0}")]
    Answered(StatusCode),
}

/// The meaning of a broker's answer to a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Taken,
    /// It would be refused again.
    Unacceptable,
    /// Another time, or by another broker.
    Later,
}

impl Answer {
    fn of(status: StatusCode) -> Self {
        match status {
            status if status.is_success() => Self::Taken,
            StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY => Self::Unacceptable,
            // Also a 404 of a broker that is older than this gateway.
            _ => Self::Later,
        }
    }
}

impl Delivery {
    pub(crate) fn new(queue: Arc<AuditQueue>, broker: Upstream, reader: TokenReader) -> Self {
        Self {
            queue,
            broker,
            reader,
            outbox: Mutex::default(),
        }
    }

    /// Reports until the shutdown starts.
    pub(crate) async fn run(self: Arc<Self>, shutdown: Shutdown) {
        loop {
            tokio::select! {
                biased;
                () = shutdown.started() => return,
                () = self.queue.wake.notified() => {}
            }
            let mut pause = INTERVAL;
            while !self.is_idle().await {
                tokio::select! {
                    biased;
                    () = shutdown.started() => return,
                    () = sleep(pause) => {}
                }
                let due = self.queue.due(Instant::now());
                pause = if self.deliver(due).await {
                    INTERVAL
                } else {
                    LONGEST_PAUSE.min(pause * 2)
                };
            }
        }
    }

    /// Reports everything that is left. After the last request.
    pub(crate) async fn finish(&self) {
        let end = Instant::now() + LAST_TRIES;
        let mut due = self.queue.close();
        while !self.deliver(std::mem::take(&mut due)).await {
            if Instant::now() >= end {
                let lost = self.outbox.lock().await.events.len();
                self.queue.drop_events(lost as u64);
                warn!(
                    lost,
                    "events for the audit log are lost: no broker takes them"
                );
                return;
            }
            sleep(INTERVAL / 4).await;
        }
    }

    /// Whether nothing is left.
    async fn deliver(&self, due: Vec<Event>) -> bool {
        let mut outbox = self.outbox.lock().await;
        self.queue
            .drop_events(outbox.add(due, self.queue.take_uses()));
        match self.queue.dropped.swap(0, Ordering::Relaxed) {
            0 => {}
            dropped => error!(
                dropped,
                "events for the audit log are lost: there are too many"
            ),
        }
        while !outbox.is_empty() {
            let report = outbox.report();
            match self.send(&report).await {
                Ok(()) => outbox.remove(&report),
                Err(ReportError::Answered(status))
                    if Answer::of(status) == Answer::Unacceptable =>
                {
                    error!(%status, "a broker does not understand a report for the audit log");
                    self.queue.drop_events(report.events.len() as u64);
                    outbox.remove(&report);
                }
                Err(error) => {
                    if !std::mem::replace(&mut outbox.is_failing, true) {
                        warn!(%error, "no broker takes reports for the audit log, trying again");
                    }
                    return false;
                }
            }
        }
        if std::mem::take(&mut outbox.is_failing) {
            info!("a broker takes reports for the audit log again");
        }
        true
    }

    async fn is_idle(&self) -> bool {
        self.outbox.lock().await.is_empty() && self.queue.is_empty()
    }

    /// Sends a report once.
    pub(crate) async fn send(&self, report: &Report) -> Result<(), ReportError> {
        let not_sent = |error: &dyn std::error::Error| ReportError::NotSent(error.to_string());
        let body = serde_json::to_vec(report).map_err(|error| not_sent(&error))?;
        let pass = Pass {
            at: self.reader.now(),
            body: BodyHash::of(&body),
        };
        let (uri, headers) = self.head(&pass).map_err(|error| not_sent(&*error))?;
        let request = Outbound {
            method: &Method::POST,
            uri: &uri,
            headers: OutboundHeaders::ToBroker(&headers),
        };
        debug_assert!((body.len() as u64) < MAX_REPORT_BYTES);
        let sending = self.broker.send(request, Outgoing::Held(Bytes::from(body)));
        let response = match timeout(BROKER_TIMEOUT, sending).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(not_sent(&error)),
            Err(_) => return Err(ReportError::Late),
        };
        let status = response.status();
        // Read to its end, so that the connection can be used again.
        let _ = read(response.into_body(), 64 * 1024, BROKER_TIMEOUT).await;
        debug!(%status, events = report.events.len(), "reported to the audit log");
        match Answer::of(status) {
            Answer::Taken => Ok(()),
            Answer::Unacceptable | Answer::Later => Err(ReportError::Answered(status)),
        }
    }

    fn head(&self, pass: &Pass) -> Result<(Uri, HeaderMap), Box<dyn std::error::Error>> {
        let query = format!("at={}&sha256={}", pass.at.as_millis(), pass.body);
        let uri = self.broker.base.uri("/v1/audit", Some(&query), None)?;
        let mac = HeaderValue::try_from(self.reader.sign_report(pass))?;
        let json = HeaderValue::from_static("application/json");
        let headers = HeaderMap::from_iter([(AUTHORIZATION, mac), (CONTENT_TYPE, json)]);
        Ok((uri, headers))
    }
}

impl Outbox {
    /// Adds events and uses. Returns how many events do not fit.
    fn add(&mut self, due: Vec<Event>, uses: HashMap<KeyHash, Day>) -> u64 {
        let room = MOST_WAITING.saturating_sub(self.events.len());
        let lost = due.len().saturating_sub(room);
        self.events.extend(due.into_iter().take(room));
        self.uses.extend(uses);
        lost as u64
    }

    fn report(&self) -> Report {
        let uses = self.uses.iter().take(BATCH);
        Report {
            events: self.events.iter().take(BATCH).cloned().collect(),
            used: uses.map(|(key, day)| (*key, *day)).collect(),
            gateway: None,
        }
    }

    /// Removes what was delivered.
    fn remove(&mut self, report: &Report) {
        self.events.drain(..report.events.len());
        for (key, _) in &report.used {
            self.uses.remove(key);
        }
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.uses.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use store::Timestamp;
    use store::audit::{EntryId, Happened};

    use super::*;

    fn events(count: usize) -> Vec<Event> {
        let event = Event {
            id: EntryId::random(),
            at: Timestamp::from_millis(0),
            happened: Happened::TokenFetched,
            key: Some(KeyHash::of("k")),
            installation: Some(store::InstallationId::random()),
            addresses: vec!["2001:db8::1".parse().unwrap(); 8],
            count: u64::MAX,
            delivered: None,
        };
        vec![event; count]
    }

    #[test]
    fn waiting_events_are_bounded_and_sent_in_batches() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.add(events(BATCH + 1), HashMap::new()), 0);
        let first = outbox.report();
        assert_eq!(first.events.len(), BATCH);
        outbox.remove(&first);
        assert_eq!(outbox.report().events.len(), 1);
        let lost = outbox.add(events(MOST_WAITING), HashMap::new());
        assert_eq!((lost, outbox.events.len()), (1, MOST_WAITING));
    }

    #[test]
    fn largest_report_is_accepted_by_a_broker() {
        let mut outbox = Outbox::default();
        let day = Day::of(Timestamp::from_millis(0));
        let keys = (0..2 * BATCH).map(|number| (KeyHash::of(&number.to_string()), day));
        outbox.add(events(2 * BATCH), keys.collect());
        let report = outbox.report();
        let bytes = serde_json::to_vec(&report).unwrap().len() as u64;
        assert!(bytes < MAX_REPORT_BYTES, "{bytes}");
        assert_eq!(report.used.len(), BATCH);
        outbox.remove(&report);
        assert_eq!(outbox.uses.len(), BATCH);
    }

    #[test]
    fn refused_report_is_tried_again_unless_it_never_fits() {
        for (status, expected) in [
            (204, Answer::Taken),
            (400, Answer::Unacceptable),
            (413, Answer::Unacceptable),
            (401, Answer::Later),
            (404, Answer::Later),
            (503, Answer::Later),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Answer::of(status), expected, "{status}");
        }
    }
}
