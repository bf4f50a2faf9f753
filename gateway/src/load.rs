//! More calls at GHL than a gateway can serve: those beyond a bound are told so at once, so that the
//! others are served as fast as ever.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Error;

/// Counts the calls that are being served.
#[derive(Debug)]
pub(crate) struct Load {
    now: AtomicUsize,
    most: usize,
}

/// The place of one request.
#[derive(Debug)]
pub(crate) struct Place<'l>(&'l Load);

impl Load {
    pub(crate) fn at_most(most: usize) -> Self {
        Self {
            now: AtomicUsize::new(0),
            most,
        }
    }

    /// # Errors
    /// When there are too many already.
    pub(crate) fn enter(&self) -> Result<Place<'_>, Error> {
        let before = self.now.fetch_add(1, Ordering::Relaxed);
        let place = Place(self);
        if before < self.most {
            Ok(place)
        } else {
            Err(Error::Overloaded)
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_request_is_over() {
        let load = Load::at_most(2);
        let first = load.enter().unwrap();
        let _second = load.enter().unwrap();
        for _ in 0..10 {
            assert!(load.enter().is_err());
        }
        drop(first);
        assert!(load.enter().is_ok());
    }
}
