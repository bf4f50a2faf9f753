//! The owner of a new installation, from GHL's response to a code.

use std::str::FromStr;

use ghl::{Owner, TokenResponse};
use store::{AppName, ClientId, Timestamp, UserType};
use store_writer::grant::Registration;
use tracing::warn;

use crate::api::error::{Error, ErrorKind};

/// GHL's response to a code, before its owner is verified.
pub(super) struct Unverified {
    pub(super) app: AppName,
    pub(super) client: ClientId,
    pub(super) response: TokenResponse,
    pub(super) requested_at: Timestamp,
}

impl Unverified {
    /// Determines the owner and checks that nothing is missing.
    pub(super) fn verify(self) -> Result<Registration, Error> {
        let Self {
            app,
            client,
            response,
            requested_at,
        } = self;
        let unusable = |what: &str| {
            warn!(what, "GHL's response to a code cannot be used");
            Error::new(
                ErrorKind::ConsentResponseUnusable,
                format!("GHL's answer {what}"),
            )
        };
        let lifetime = response.lifetime().value;
        let mut location = id("location", response.location_id.as_deref());
        let mut company = id("company", response.company_id.as_deref());
        let user_type = |named: &str| -> Option<UserType> { Owner::user_type(named)?.parse().ok() };
        let claimed = response.claimed_owner();
        let claimed = claimed.and_then(|(class, id)| Some((user_type(class)?, id)));
        let stated = response.user_type.as_deref().and_then(user_type);
        let named = stated.or(claimed.map(|(class, _)| class));
        // The claims of the token supply what the response does not name.
        match claimed.filter(|(class, _)| named == Some(*class)) {
            Some((UserType::Location, claimed)) => {
                location = location.or_else(|| id("location", Some(claimed)));
            }
            Some((UserType::Company, claimed)) => {
                company = company.or_else(|| id("company", Some(claimed)));
            }
            None => {}
        }
        let user_type = match named {
            Some(named) => named,
            None if location.is_some() => UserType::Location,
            None => UserType::Company,
        };
        // Both kinds of token carry a company: an agency's token must not be filed under a location.
        let location = match user_type {
            UserType::Location if location.is_none() => {
                return Err(unusable("is for a location and does not say which"));
            }
            UserType::Location => location,
            UserType::Company if company.is_none() => {
                return Err(unusable("is for a company and does not say which"));
            }
            UserType::Company => None,
        };
        if response.refresh_token.is_none() {
            return Err(unusable("has no refresh token"));
        }
        Ok(Registration {
            app,
            client: Some(client),
            access_token: response.access_token,
            refresh_token: response.refresh_token,
            expires_at: Some(requested_at + lifetime),
            lifetime,
            scopes: response.scope.unwrap_or_default(),
            user_type,
            location,
            company,
        })
    }
}

/// Parses an id of the response. A malformed one counts as absent, because the other id may be enough.
fn id<T: FromStr>(what: &str, named: Option<&str>) -> Option<T> {
    let id = named.and_then(|named| named.parse().ok());
    if id.is_none() && named.is_some() {
        warn!(what, "GHL's response to a code has a malformed id");
    }
    id
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use http::StatusCode;
    use store::{CompanyId, LocationId};

    use super::*;

    fn verify(body: &str) -> Result<Registration, Error> {
        Unverified {
            app: AppName::default(),
            client: "id-1".parse().unwrap(),
            response: TokenResponse::parse(body.as_bytes()).unwrap(),
            requested_at: Timestamp::from_millis(1000),
        }
        .verify()
    }

    #[test]
    fn company_token_is_not_stored_under_a_location() {
        let agency = verify(
            r#"{"access_token":"a","refresh_token":"r","userType":"Company","companyId":"C","locationId":"L"}"#,
        );
        let agency = agency.unwrap();
        assert_eq!(agency.user_type, UserType::Company);
        assert_eq!(agency.location, None);
        let location = verify(
            r#"{"access_token":"a","refresh_token":"r","userType":"Location","companyId":"C","locationId":"L","expires_in":20}"#,
        );
        let location = location.unwrap();
        assert_eq!(location.location.unwrap().as_str(), "L");
        assert_eq!(location.expires_at, Some(Timestamp::from_millis(21_000)));
    }

    #[test]
    fn malformed_fields_count_as_absent() {
        let cases = [
            (r#""userType":"Robot","companyId":"C""#, "C"),
            (
                r#""userType":["Location"],"companyId":"C","locationId":7"#,
                "7",
            ),
            (
                r#""userType":"location","companyId":{},"locationId":"L""#,
                "L",
            ),
            (r#""companyId":12,"locationId":"a:b""#, "12"),
            (
                r#""locationId":"L","scope":["a"],"isBulkInstallation":"no","expires_in":1e300"#,
                "L",
            ),
        ];
        for (fields, name) in cases {
            let body = format!(r#"{{"access_token":"a","refresh_token":"r",{fields}}}"#);
            let enrolment = verify(&body).unwrap();
            let location = enrolment.location.map(String::from);
            let named = location.or(enrolment.company.map(String::from));
            assert_eq!(named.as_deref(), Some(name), "{fields}");
            let day = Timestamp::from_millis(1000) + Duration::from_secs(86_399);
            assert_eq!(enrolment.expires_at, Some(day), "{fields}");
        }
    }

    #[test]
    fn owner_is_taken_from_the_token_if_the_response_does_not_name_it() {
        let claims = |class: &str| {
            let claims = format!(r#"{{"authClass":"{class}","authClassId":"X"}}"#);
            format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims))
        };
        for (class, rest, location, company) in [
            ("Location", "", Some("X"), None),
            ("Company", "", None, Some("X")),
            ("Location", r#","companyId":"C""#, Some("X"), Some("C")),
            ("Location", r#","locationId":"L""#, Some("L"), None),
            (
                "Company",
                r#","userType":"Robot","locationId":"L","companyId":"C""#,
                None,
                Some("C"),
            ),
            (
                "Location",
                r#","userType":"Company","companyId":"C""#,
                None,
                Some("C"),
            ),
        ] {
            let token = claims(class);
            let body = format!(r#"{{"access_token":"{token}","refresh_token":"r"{rest}}}"#);
            let enrolment = verify(&body).unwrap();
            let named = enrolment.location.as_ref().map(LocationId::as_str);
            assert_eq!(named, location, "{class} {rest}");
            let named = enrolment.company.as_ref().map(CompanyId::as_str);
            assert_eq!(named, company, "{class} {rest}");
        }
    }

    #[test]
    fn response_without_an_owner_is_refused() {
        for body in [
            r#"{"access_token":"a","refresh_token":"r"}"#,
            r#"{"access_token":"a","refresh_token":"r","userType":"Location","companyId":"C"}"#,
            r#"{"access_token":"a","refresh_token":"r","userType":"Robot"}"#,
            r#"{"access_token":"a","refresh_token":"r","locationId":"a:b"}"#,
            r#"{"access_token":"a","userType":"Location","locationId":"L"}"#,
        ] {
            assert_eq!(
                verify(body).unwrap_err().status(),
                StatusCode::BAD_GATEWAY,
                "{body}"
            );
        }
    }
}
