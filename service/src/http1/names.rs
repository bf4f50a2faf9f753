//! The names of headers.

use axum::http::HeaderName;

/// The names in the head of the last message, as they came. One peer's messages have the same nearly
/// always, in the same places, and to see that is far less work than to make a name.
#[derive(Debug, Default)]
pub struct Names(Vec<(Box<str>, HeaderName)>);

impl Names {
    /// The name at this place of a head.
    ///
    /// # Errors
    /// When it is none.
    pub fn at(&mut self, place: usize, name: &str) -> Result<HeaderName, httparse::Error> {
        if let Some((came, made)) = self.0.get(place)
            && **came == *name
        {
            return Ok(made.clone());
        }
        let made = HeaderName::from_bytes(name.as_bytes());
        let made = made.map_err(|_| httparse::Error::HeaderName)?;
        self.0.truncate(place);
        self.0.push((name.into(), made.clone()));
        Ok(made)
    }
}
