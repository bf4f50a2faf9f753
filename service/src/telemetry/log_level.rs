//! The log filter, which can be changed while the process runs.

mod view;

use std::fmt;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::warn;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::reload::Handle;

pub use view::{LogLevelView, NewLogLevel};

use super::{ACCESS_LOG, WHOLE_LINE};
use crate::locks::lock;

/// The longest time after which a filter can be given up again.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// Of this process, once telemetry has started.
static PROCESS: OnceLock<LogLevel> = OnceLock::new();

/// The log filter of a process.
pub struct LogLevel {
    replace: Replace,
    state: Mutex<State>,
}

/// Replaces the filter of the subscriber. False if that is gone. Boxed, since its type names all layers.
type Replace = Box<dyn Fn(EnvFilter) -> bool + Send + Sync>;

#[derive(Debug)]
struct State {
    /// Of the settings.
    configured: String,
    /// `None`: the configured one.
    changed: Option<Changed>,
    /// Counts the changes, so that an old one does not end a newer one.
    changes: u64,
}

#[derive(Debug, Clone)]
struct Changed {
    filter: String,
    until: Option<Instant>,
}

/// The log filter as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The filter that applies.
    pub filter: String,
    /// The filter of the settings.
    pub configured: String,
    /// After this time the configured one applies again. `None`: it does so at the next start.
    pub left: Option<Duration>,
}

/// Why the filter stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum LogLevelError {
    /// It is no filter.
    #[error("the log filter is not understood: {0}")]
    Filter(#[from] ParseError),
    /// It is no duration.
    #[error("the time must be a duration with its unit, such as 10m")]
    Duration,
    /// The time is too long.
    #[error("the time is longer than 30 days")]
    TooLong,
    /// The subscriber is gone, in a process that ends.
    #[error("the log has ended")]
    Ended,
}

/// The log filter of this process. `None` before telemetry starts.
#[must_use]
pub fn log_level() -> Option<&'static LogLevel> {
    PROCESS.get()
}

/// The filter with these directives. The whole lines and the access log are added to each, so that a custom filter does
/// not remove them.
pub(super) fn filter(directives: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::try_new(format!("{WHOLE_LINE}=info,{ACCESS_LOG}=info,{directives}"))
}

pub(super) fn install<S: 'static>(handle: Handle<EnvFilter, S>, configured: &str) {
    let _ = PROCESS.set(LogLevel::new(handle, configured));
}

impl LogLevel {
    fn new<S: 'static>(handle: Handle<EnvFilter, S>, configured: &str) -> Self {
        Self {
            replace: Box::new(move |filter| handle.reload(filter).is_ok()),
            state: Mutex::new(State {
                configured: configured.to_owned(),
                changed: None,
                changes: 0,
            }),
        }
    }

    /// The filter as it is now.
    pub fn shown(&self) -> Shown {
        let state = lock(&self.state);
        let configured = state.configured.clone();
        match &state.changed {
            None => Shown {
                filter: configured.clone(),
                configured,
                left: None,
            },
            Some(changed) => Shown {
                filter: changed.filter.clone(),
                configured,
                left: changed
                    .until
                    .map(|until| until.saturating_duration_since(Instant::now())),
            },
        }
    }

    /// Applies other directives, for a time or until the process ends. `lasts`: at most 30 days. Must be called within a
    /// runtime that lives as long as the process.
    ///
    /// # Errors
    /// If the filter is not understood. Then nothing changes.
    pub fn change(
        &'static self,
        directives: &str,
        lasts: Option<Duration>,
    ) -> Result<(), LogLevelError> {
        if lasts.is_some_and(|lasts| lasts > LONGEST) {
            return Err(LogLevelError::TooLong);
        }
        let until = lasts.map(|lasts| Instant::now() + lasts);
        let change = self.apply(directives, until)?;
        if let Some(until) = until {
            tokio::spawn(async move {
                sleep_until(until).await;
                self.end(change);
            });
        }
        Ok(())
    }

    /// Takes the directives of settings that were read again. Other ones apply at once, and end a change.
    ///
    /// # Errors
    /// If the filter is not understood. Then nothing changes.
    pub fn configure(&self, directives: &str) -> Result<(), LogLevelError> {
        let mut state = lock(&self.state);
        if state.configured == directives {
            return Ok(());
        }
        self.reload(directives)?;
        directives.clone_into(&mut state.configured);
        state.changed = None;
        state.changes += 1;
        Ok(())
    }

    /// The number of the change.
    fn apply(&self, directives: &str, until: Option<Instant>) -> Result<u64, LogLevelError> {
        let mut state = lock(&self.state);
        self.reload(directives)?;
        state.changed = Some(Changed {
            filter: directives.to_owned(),
            until,
        });
        state.changes += 1;
        Ok(state.changes)
    }

    /// Ends a change, unless there was another one since.
    fn end(&self, change: u64) {
        let mut state = lock(&self.state);
        if state.changes != change {
            return;
        }
        match self.reload(&state.configured) {
            Ok(()) => state.changed = None,
            Err(error) => warn!(%error, "the log filter stays changed"),
        }
    }

    fn reload(&self, directives: &str) -> Result<(), LogLevelError> {
        let filter = filter(directives)?;
        match (self.replace)(filter) {
            true => Ok(()),
            false => Err(LogLevelError::Ended),
        }
    }
}

impl fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("LogLevel");
        shown.field("state", &self.state).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tracing::{debug, info};
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{Layer, fmt, reload};

    use super::super::whole_line::tests::Written;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn changed_filter_applies_and_ends_after_its_time() {
        let written = Written::default();
        let (layer, handle) = reload::Layer::new(filter("info").unwrap());
        let log = fmt::layer().with_writer(written.clone());
        let subscriber = tracing_subscriber::registry().with(log.with_filter(layer));
        let _default = tracing::subscriber::set_default(subscriber);
        let level: &'static LogLevel = Box::leak(Box::new(LogLevel::new(handle, "info")));
        debug!("first");
        let lasts = Duration::from_secs(600);
        level.change("debug", Some(lasts)).unwrap();
        debug!("second");
        let shown = level.shown();
        assert_eq!(
            (shown.filter.as_str(), shown.configured.as_str()),
            ("debug", "info")
        );
        assert_eq!(shown.left, Some(lasts));
        tokio::time::sleep(lasts + Duration::from_millis(1)).await;
        debug!("third");
        assert_eq!(level.shown().filter, "info");
        assert!(level.change("=[", None).is_err());
        level.change("warn", None).unwrap();
        info!("fourth");
        level.configure("info").unwrap();
        assert_eq!(
            (level.shown().filter.as_str(), level.shown().left),
            ("warn", None)
        );
        level.configure("debug").unwrap();
        debug!("fifth");
        let text = written.text();
        for (line, is_there) in [
            ("first", false),
            ("second", true),
            ("third", false),
            ("fourth", false),
            ("fifth", true),
        ] {
            assert_eq!(text.contains(line), is_there, "{line}: {text}");
        }
    }
}
