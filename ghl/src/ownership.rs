//! Checks the owner of a token. GHL, or a proxy in between, may mix up responses. A token stored under the
//! wrong installation would show one customer the data of another.

use crate::token_response::TokenResponse;

/// The owner of an installation, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner<'a> {
    /// The id of the location.
    pub location: Option<&'a str>,
    /// The id of the company.
    pub company: Option<&'a str>,
    /// `Company` or `Location`.
    pub user_type: &'a str,
}

/// The field of a response that names another owner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its {field} is {named:?} instead of {expected:?}")]
pub struct Mismatch {
    /// `user type`, `location` or `company`.
    pub field: &'static str,
    /// The value in the response, at most 64 characters.
    pub named: String,
    /// The known value of the installation.
    pub expected: String,
}

impl Owner<'_> {
    const COMPANY: &'static str = "Company";
    const LOCATION: &'static str = "Location";
    /// The longest part of an unexpected value that is shown.
    const SHOWN: usize = 64;

    /// Compares a response with the known owner. A field that is missing on either side matches: most
    /// fields of a response may be missing, and the company of an installation may be unknown.
    ///
    /// # Errors
    /// The first field that names another owner.
    pub fn check(&self, response: &TokenResponse) -> Result<(), Mismatch> {
        // An unknown user type says nothing about the owner.
        let user_type = response.user_type.as_deref().and_then(Self::user_type);
        Self::compare("user type", user_type, Some(self.user_type))?;
        Self::compare(
            "location",
            response.location_id.as_deref(),
            // Unknown for a company's token, which may name any of its locations.
            self.location,
        )?;
        Self::compare("company", response.company_id.as_deref(), self.company)
    }

    /// The user type in GHL's spelling. `None` for any other word.
    #[must_use]
    pub fn user_type(told: &str) -> Option<&'static str> {
        let known = [Self::COMPANY, Self::LOCATION];
        known
            .into_iter()
            .find(|known| known.eq_ignore_ascii_case(told))
    }

    fn compare(
        field: &'static str,
        named: Option<&str>,
        expected: Option<&str>,
    ) -> Result<(), Mismatch> {
        match (named, expected) {
            (Some(named), Some(expected)) if named != expected => Err(Mismatch {
                field,
                named: named.chars().take(Self::SHOWN).collect(),
                expected: expected.to_owned(),
            }),
            (Some(_) | None, Some(_) | None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Owner<'_> = Owner {
        location: Some("L"),
        company: Some("C"),
        user_type: "Location",
    };
    const AGENCY: Owner<'_> = Owner {
        location: None,
        company: Some("C"),
        user_type: "Company",
    };

    fn check(owner: Owner<'_>, fields: &str) -> Option<&'static str> {
        let body = format!(r#"{{"access_token":"a"{fields}}}"#);
        let response = TokenResponse::parse(body.as_bytes()).unwrap();
        owner.check(&response).err().map(|mismatch| mismatch.field)
    }

    #[test]
    fn response_that_names_the_owner_or_nobody_matches() {
        let whole = r#","userType":"Location","locationId":"L","companyId":"C""#;
        for fields in [
            "",
            whole,
            r#","companyId":"C""#,
            r#","userType":"location""#,
        ] {
            assert_eq!(check(PLACE, fields), None, "{fields}");
        }
        for fields in [
            "",
            r#","userType":"Company","companyId":"C""#,
            r#","companyId":"C","locationId":"L""#,
        ] {
            assert_eq!(check(AGENCY, fields), None, "{fields}");
        }
    }

    #[test]
    fn response_that_names_another_owner_is_refused() {
        let foreign = [
            (r#","locationId":"M","companyId":"C""#, "location"),
            (r#","locationId":"L","companyId":"D""#, "company"),
            (r#","userType":"Company","companyId":"C""#, "user type"),
            (r#","locationId":7"#, "location"),
        ];
        for (fields, field) in foreign {
            assert_eq!(check(PLACE, fields), Some(field), "{fields}");
        }
        let fields = r#","userType":"Location","locationId":"L","companyId":"C""#;
        assert_eq!(check(AGENCY, fields), Some("user type"));
    }

    #[test]
    fn unknown_company_matches_any_company() {
        let unknown = Owner {
            company: None,
            ..PLACE
        };
        assert_eq!(check(unknown, r#","locationId":"L","companyId":"D""#), None);
    }

    #[test]
    fn malformed_fields_count_as_absent() {
        for fields in [
            r#","userType":"Robot""#,
            r#","userType":{"a":1},"locationId":[],"companyId":null"#,
        ] {
            assert_eq!(check(PLACE, fields), None, "{fields}");
        }
    }
}
