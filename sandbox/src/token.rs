//! Tokens: JWTs signed by the sandbox.
//!
//! A token contains everything about itself, protected by the signature. So the sandbox keeps no table of
//! access tokens, and a restarted sandbox with the same secret recognises its earlier ones. It always
//! distinguishes an expired token from one that it never issued.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{digest, hmac};
use serde::{Deserialize, Serialize};

use crate::apps::{app_id, version_id};
use crate::clock::millis;
use crate::ids;
use crate::subject::{Subject, UserType};

/// The lifetime of an unused refresh token, by GHL's documents.
pub(crate) const REFRESH_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// The bytes of one block of a signature.
const BLOCK: usize = digest::SHA256_OUTPUT_LEN;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct GrantId(pub(crate) u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Use {
    Access,
    Refresh,
}

/// The facts that all tokens of one grant have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) grant: GrantId,
    /// The client id that the grant was made for. Its tokens work with no other.
    pub(crate) client: Arc<str>,
    pub(crate) subject: Subject,
    pub(crate) scope: Arc<str>,
    /// The agency's grant that a location's tokens were minted from.
    pub(crate) agency_grant: Option<GrantId>,
}

impl Identity {
    /// The app of the client id.
    pub(crate) fn app(&self) -> &str {
        app_id(&self.client)
    }

    /// The grant of the user who consented.
    pub(crate) fn consented_grant(&self) -> GrantId {
        self.agency_grant.unwrap_or(self.grant)
    }
}

/// The contents of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    pub(crate) token_use: Use,
    pub(crate) identity: Identity,
    /// The serial of an access token, or the generation of a refresh token within its grant.
    pub(crate) number: u64,
    pub(crate) issued_ms: u64,
    pub(crate) expires_ms: u64,
}

impl Claims {
    /// The claims of a refresh token. They depend only on the arguments, so a repeat within the grace
    /// period gets the same token without a stored copy.
    pub(crate) fn refresh(identity: Identity, generation: u64, issued_ms: u64) -> Self {
        Self {
            token_use: Use::Refresh,
            identity,
            number: generation,
            issued_ms,
            expires_ms: issued_ms + millis(REFRESH_LIFETIME),
        }
    }
}

/// Signs and verifies tokens.
#[derive(Debug)]
pub(crate) struct Signer {
    key: hmac::Key,
}

impl Signer {
    pub(crate) fn new(client_secret: &[u8]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, client_secret),
        }
    }

    /// Signs a token of at least about `bytes` bytes. The signature is lengthened as needed, because a
    /// signature does not compress, like GHL's 256-byte signatures.
    pub(crate) fn sign(&self, claims: &Claims, bytes: usize) -> String {
        let payload = Payload::new(claims);
        let json = serde_json::to_string(&payload).unwrap_or_default();
        let mut token = URL_SAFE_NO_PAD.encode(HEADER);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(json, &mut token);
        // Four bytes of base64 carry three.
        let missing = bytes.saturating_sub(token.len() + 1) * 3 / 4;
        let signature = self.signature(&token, missing.max(BLOCK));
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }

    /// A signature of `length` bytes in blocks. The first block signs the text, and each further one its
    /// predecessor.
    fn signature(&self, signed: &str, length: usize) -> Vec<u8> {
        let mut block = hmac::sign(&self.key, signed.as_bytes());
        let mut signature = block.as_ref().to_vec();
        while signature.len() < length {
            block = hmac::sign(&self.key, block.as_ref());
            signature.extend(block.as_ref());
        }
        signature.truncate(length);
        signature
    }

    /// The claims of a token of this sandbox and of this use. Does not check the expiry.
    pub(crate) fn read(&self, token: &str, token_use: Use) -> Option<Claims> {
        let (signed, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        hmac::verify(&self.key, signed.as_bytes(), signature.get(..BLOCK)?).ok()?;
        if signature != self.signature(signed, signature.len()) {
            return None;
        }
        let payload = URL_SAFE_NO_PAD.decode(signed.split_once('.')?.1).ok()?;
        let payload: Payload<'_> = serde_json::from_slice(&payload).ok()?;
        (payload.sandbox.token_use == token_use).then(|| payload.claims())
    }
}

/// The fingerprint of a token: the first 12 hex digits of its SHA-256.
pub(crate) fn fingerprint(token: &str) -> String {
    ids::hex(&digest::digest(&digest::SHA256, token.as_bytes()).as_ref()[..6])
}

/// The payload, with the names of GHL's tokens. The sandbox's own claims are under `sandbox`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    auth_class: UserType,
    #[serde(borrow)]
    auth_class_id: Cow<'a, str>,
    #[serde(borrow)]
    company_id: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    source_id: Cow<'a, str>,
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow)]
    scope: Cow<'a, str>,
    /// Only in access tokens.
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    oauth_meta: Option<OauthMeta<'a>>,
    iat: u64,
    exp: u64,
    sandbox: Mark,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OauthMeta<'a> {
    #[serde(borrow)]
    client: Cow<'a, str>,
    #[serde(borrow)]
    client_key: Cow<'a, str>,
    #[serde(borrow)]
    version_id: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct Mark {
    token_use: Use,
    grant: GrantId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agency_grant: Option<GrantId>,
    number: u64,
    issued_ms: u64,
    expires_ms: u64,
}

impl<'a> Payload<'a> {
    fn new(claims: &'a Claims) -> Self {
        let identity = &claims.identity;
        let oauth_meta = (claims.token_use == Use::Access).then(|| OauthMeta {
            client: Cow::Borrowed(identity.app()),
            client_key: Cow::Borrowed(&identity.client),
            version_id: Cow::Owned(version_id(identity.app())),
        });
        Self {
            auth_class: identity.subject.user_type(),
            auth_class_id: Cow::Borrowed(identity.subject.id()),
            company_id: Cow::Borrowed(identity.subject.company()),
            source: Cow::Borrowed("INTEGRATION"),
            source_id: Cow::Borrowed(&identity.client),
            channel: Cow::Borrowed("OAUTH"),
            scope: Cow::Borrowed(&identity.scope),
            oauth_meta,
            iat: claims.issued_ms / 1000,
            exp: claims.expires_ms / 1000,
            sandbox: Mark {
                token_use: claims.token_use,
                grant: identity.grant,
                agency_grant: identity.agency_grant,
                number: claims.number,
                issued_ms: claims.issued_ms,
                expires_ms: claims.expires_ms,
            },
        }
    }

    fn claims(self) -> Claims {
        let company = self.company_id.into();
        let subject = match self.auth_class {
            UserType::Company => Subject::Company { company },
            UserType::Location => Subject::Location {
                location: self.auth_class_id.into(),
                company,
            },
        };
        Claims {
            token_use: self.sandbox.token_use,
            identity: Identity {
                grant: self.sandbox.grant,
                client: self.source_id.into(),
                subject,
                scope: self.scope.into(),
                agency_grant: self.sandbox.agency_grant,
            },
            number: self.sandbox.number,
            issued_ms: self.sandbox.issued_ms,
            expires_ms: self.sandbox.expires_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        let subject = Subject::Location {
            location: "loc".into(),
            company: "comp".into(),
        };
        let identity = Identity {
            grant: GrantId(7),
            client: "app-client".into(),
            subject,
            scope: "a b".into(),
            agency_grant: Some(GrantId(6)),
        };
        Claims::refresh(identity, 3, 1000)
    }

    #[test]
    fn signed_claims_survive_a_round_trip() {
        let signer = Signer::new(b"secret");
        let token = signer.sign(&claims(), 0);
        assert_eq!(token.split('.').count(), 3);
        assert_eq!(signer.read(&token, Use::Refresh), Some(claims()));
        assert_eq!(signer.sign(&claims(), 0), token);
    }

    #[test]
    fn tokens_of_other_keys_or_uses_are_refused() {
        let signer = Signer::new(b"secret");
        let token = signer.sign(&claims(), 0);
        assert_eq!(signer.read(&token, Use::Access), None);
        let stranger = Signer::new(b"other");
        assert_eq!(stranger.read(&token, Use::Refresh), None);
        for text in ["", ".", "a.b.c", "pit-123", &token[1..]] {
            assert_eq!(signer.read(text, Use::Refresh), None, "{text}");
        }
    }

    #[test]
    fn tokens_are_padded_to_the_requested_size() {
        let signer = Signer::new(b"secret");
        for bytes in [1024, 8192, 20_000] {
            let length = signer.sign(&claims(), bytes).len();
            assert!(length.abs_diff(bytes) < 32, "{length} for {bytes}");
        }
    }
}
