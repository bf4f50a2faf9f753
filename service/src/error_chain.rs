//! Errors with their causes, for people.

use std::error::Error;

/// An error and its causes in one line. A cause that says the same as the error before it is left out.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut last = text.clone();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if next != last {
            text.push_str(": ");
            text.push_str(&next);
            last = next;
        }
        cause = error.source();
    }
    text
}
