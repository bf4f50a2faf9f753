//! Creates tokens without a running sandbox.
//!
//! A sandbox verifies tokens only by their signature, and restores a grant from its refresh token. So a
//! test with the app's secret can create a whole fleet in advance.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::Config;
use crate::clock::{Clock, millis};
use crate::ids::Ids;
use crate::subject::Subject;
use crate::token::{Claims, GrantId, Identity, Signer, Use};

/// Creates tokens that a sandbox with the same client credentials accepts.
#[derive(Debug)]
pub struct Mint {
    signer: Signer,
    ids: Ids,
    client: Arc<str>,
}

/// The first tokens of a new grant.
#[derive(Debug)]
pub struct Minted {
    /// The access token, a JWT.
    pub access_token: SecretString,
    /// The refresh token of generation 1.
    pub refresh_token: SecretString,
}

/// The consent of a location.
#[derive(Debug, Clone)]
pub struct Consented {
    /// The id of the location.
    pub location: Arc<str>,
    /// The id of its company.
    pub company: Arc<str>,
    /// The scopes, separated by spaces.
    pub scope: String,
    /// When the tokens were issued, in milliseconds since the Unix epoch.
    pub issued_ms: u64,
}

impl Mint {
    /// A mint for the client credentials of `config`.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let secret = config.client_secret.expose_secret().as_bytes();
        Self {
            signer: Signer::new(secret),
            ids: Ids::new(secret, Clock::start().now_ms()),
            client: config.client_id.as_str().into(),
        }
    }

    /// An access token of about `bytes` bytes with this lifetime, and its refresh token.
    #[must_use]
    pub fn tokens(&self, consented: Consented, lifetime: Duration, bytes: usize) -> Minted {
        let Consented {
            location,
            company,
            scope,
            issued_ms,
        } = consented;
        let identity = Identity {
            grant: GrantId(self.ids.number()),
            client: self.client.clone(),
            subject: Subject::Location { location, company },
            scope: scope.into(),
            agency_grant: None,
        };
        let refresh = Claims::refresh(identity, 1, issued_ms);
        let refresh_token = self.signer.sign(&refresh, 0);
        let access = Claims {
            token_use: Use::Access,
            number: self.ids.serial(),
            expires_ms: issued_ms + millis(lifetime),
            ..refresh
        };
        Minted {
            access_token: self.signer.sign(&access, bytes).into(),
            refresh_token: refresh_token.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minted_tokens_are_valid_for_a_sandbox_with_the_same_secret() {
        let config = Config::default();
        let mint = Mint::new(&config);
        let tokens = |location: &str| {
            let consented = Consented {
                location: location.into(),
                company: "comp".into(),
                scope: "a b".to_owned(),
                issued_ms: 1000,
            };
            mint.tokens(consented, Duration::from_secs(60), 1024)
        };
        let secret = config.client_secret.expose_secret().as_bytes();
        let signer = Signer::new(secret);
        let read = |minted: &Minted| {
            let access = signer.read(minted.access_token.expose_secret(), Use::Access);
            let refresh = signer.read(minted.refresh_token.expose_secret(), Use::Refresh);
            (access.unwrap(), refresh.unwrap())
        };
        let (access, refresh) = read(&tokens("loc1"));
        assert_eq!(&**access.identity.subject.id(), "loc1");
        assert_eq!((access.issued_ms, access.expires_ms), (1000, 61_000));
        assert_eq!(
            (refresh.identity.grant, refresh.number),
            (access.identity.grant, 1)
        );
        let (other, _) = read(&tokens("loc2"));
        assert_ne!(other.identity.grant, access.identity.grant);
    }
}
