//! GHL's token endpoint. Every refresh token is valid once. A repetition within the grace period gets the
//! same successor.

use crate::record::{OLD, Token};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Ghl {
    /// Ticks since each token was first spent, oldest token first. The newest token is not included.
    spent: Vec<u8>,
    /// GHL's grace period in ticks.
    grace: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Reply {
    Granted(Token),
    /// The successor, repeated.
    Repeated(Token),
    Refused,
}

impl Reply {
    /// The token in the reply.
    pub(crate) fn token(self) -> Option<Token> {
        match self {
            Self::Granted(token) | Self::Repeated(token) => Some(token),
            Self::Refused => None,
        }
    }
}

impl Ghl {
    pub(crate) fn new(grace: u8) -> Self {
        Self {
            spent: Vec::new(),
            grace,
        }
    }

    /// The one valid token.
    pub(crate) fn newest(&self) -> Token {
        Token::try_from(self.spent.len()).expect("a model refreshes a few times") + 1
    }

    pub(crate) fn spend(&mut self, token: Token) -> Reply {
        match self.spent.get(usize::from(token - 1)) {
            None => {
                self.spent.push(0);
                Reply::Granted(token + 1)
            }
            Some(age) if *age < self.grace => Reply::Repeated(token + 1),
            Some(_) => Reply::Refused,
        }
    }

    pub(crate) fn tick(&mut self) {
        for age in &mut self.spent {
            *age = OLD.min(*age + 1);
        }
    }
}
