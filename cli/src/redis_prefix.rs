//! The beginning of all names in Redis.

use service::config::Settings;
use store::names::Prefix;

/// Reads `EVERGREEN_REDIS_PREFIX`.
pub(crate) fn read(settings: &mut Settings<'_>) -> Prefix {
    settings.parse(
        "EVERGREEN_REDIS_PREFIX",
        Prefix::default(),
        "1 to 16 of a-z, 0-9 and -, such as acme",
    )
}
