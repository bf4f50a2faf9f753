//! The names of headers, and what they are for.

use axum::http::HeaderName;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};

/// Longer ones are not remembered: for as long as a connection lives, they take memory.
const LONGEST: usize = 64;

/// The names in the head of the last message, as they came. One peer's messages have the same nearly
/// always, in the same places, and to see that is far less work than to make a name.
#[derive(Debug, Default)]
pub struct Names(Vec<Known>);

#[derive(Debug)]
struct Known {
    came: Box<str>,
    name: HeaderName,
    role: Role,
}

/// What a header says about its message and its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Length,
    Coding,
    Connection,
    Host,
    Expectation,
    /// Nothing.
    Other,
}

impl Names {
    /// The name at this place of a head.
    ///
    /// # Errors
    /// When it is none.
    pub fn at(&mut self, place: usize, name: &str) -> Result<(HeaderName, Role), httparse::Error> {
        if let Some(known) = self.0.get(place)
            && *known.came == *name
        {
            return Ok((known.name.clone(), known.role));
        }
        let made = HeaderName::from_bytes(name.as_bytes());
        let made = made.map_err(|_| httparse::Error::HeaderName)?;
        let role = Role::of(&made);
        self.0.truncate(place);
        if self.0.len() == place && name.len() <= LONGEST {
            self.0.push(Known {
                came: name.into(),
                name: made.clone(),
                role,
            });
        }
        Ok((made, role))
    }
}

impl Role {
    fn of(name: &HeaderName) -> Self {
        match *name {
            CONTENT_LENGTH => Self::Length,
            TRANSFER_ENCODING => Self::Coding,
            CONNECTION => Self::Connection,
            HOST => Self::Host,
            EXPECT => Self::Expectation,
            _ => Self::Other,
        }
    }
}
