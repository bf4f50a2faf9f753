//! The log level as requests and answers have it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{LogLevelError, log_level};

/// Another log filter.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[schema(as = LogLevelToSet)]
pub struct NewLogLevel {
    /// Such as `info,broker=debug`.
    filter: String,
    /// How long it applies, such as `10m`. Without it, until the process ends.
    #[serde(rename = "for")]
    lasts: Option<String>,
}

/// The log filter of a process.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = LogLevel)]
pub struct LogLevelView {
    /// The filter that applies.
    filter: String,
    /// The filter of the settings. It applies again at the next start.
    configured: String,
    /// After this time the configured filter applies again, such as `9m 59s`.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    lasts: Option<String>,
}

impl NewLogLevel {
    /// Applies it to this process. See [`super::LogLevel::change`].
    ///
    /// # Errors
    /// If the filter or the time is not understood.
    pub fn apply(&self) -> Result<LogLevelView, LogLevelError> {
        let lasts = self.lasts.as_deref().map(humantime::parse_duration);
        let lasts = lasts.transpose().map_err(|_| LogLevelError::Duration)?;
        let level = log_level().ok_or(LogLevelError::Ended)?;
        level.change(&self.filter, lasts)?;
        LogLevelView::now()
    }

    /// For the audit log.
    #[must_use]
    pub fn described(&self) -> String {
        match &self.lasts {
            Some(lasts) => format!("{} for {lasts}", self.filter),
            None => self.filter.clone(),
        }
    }
}

impl LogLevelView {
    /// That of this process.
    ///
    /// # Errors
    /// If it has no log.
    pub fn now() -> Result<Self, LogLevelError> {
        let shown = log_level().ok_or(LogLevelError::Ended)?.shown();
        let whole_seconds = |left: Duration| Duration::from_secs(left.as_secs());
        let lasts = shown.left.map(whole_seconds);
        Ok(Self {
            filter: shown.filter,
            configured: shown.configured,
            lasts: lasts.map(|left| humantime::format_duration(left).to_string()),
        })
    }
}
