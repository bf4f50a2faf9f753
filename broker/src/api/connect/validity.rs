//! The `expires_in` of a request: how long what it asks for is valid.

use std::time::Duration;

use crate::api::error::Error;

/// How long it is valid. `expires_in` is in seconds; without it, it is `usual`.
///
/// # Errors
/// 400 if it is zero, or more than `longest`.
pub(super) fn of(
    expires_in: Option<u64>,
    usual: Duration,
    longest: Duration,
) -> Result<Duration, Error> {
    let most = longest.as_secs();
    match expires_in {
        None => Ok(usual),
        Some(seconds) if (1..=most).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        Some(_) => Err(Error::invalid(format!(
            "`expires_in` is a number of seconds from 1 to {most}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_from_one_to_the_longest_validity() {
        let [usual, longest] = [60, 3600].map(Duration::from_secs);
        let seconds = |expires_in| of(expires_in, usual, longest).map(|it| it.as_secs()).ok();
        assert_eq!(seconds(None), Some(60));
        for (given, expected) in [(0, None), (1, Some(1)), (3600, Some(3600)), (3601, None)] {
            assert_eq!(seconds(Some(given)), expected, "{given}");
        }
        let error = of(Some(0), usual, longest).unwrap_err();
        assert_eq!(error.code(), "request_invalid");
    }
}
