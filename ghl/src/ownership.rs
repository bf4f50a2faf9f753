//! Whose token an answer holds. GHL, or something between it and us, may mix answers up: a token of
//! somebody else, filed under an installation, shows one customer the data of another.

use crate::answer::Answer;

/// Whom an installation belongs to, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner<'a> {
    pub location: Option<&'a str>,
    pub company: Option<&'a str>,
    /// `Company` or `Location`.
    pub user_type: &'a str,
}

/// What of an answer tells that it is for somebody else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its {field} is {named:?} instead of {expected:?}")]
pub struct Mismatch {
    pub field: &'static str,
    /// What the answer says.
    pub named: String,
    /// What is known of the installation.
    pub expected: String,
}

impl Owner<'_> {
    const COMPANY: &'static str = "Company";
    const LOCATION: &'static str = "Location";
    /// No more of a strange value is shown.
    const SHOWN: usize = 64;

    /// Compares what the answer names with what is known. What either does not say matches: most
    /// fields of an answer may be missing, and an installation's company may not be known.
    ///
    /// # Errors
    /// When the answer is for somebody else.
    pub fn check(&self, answer: &Answer) -> Result<(), Mismatch> {
        // A user type that GHL does not have says nothing about whose the token is.
        let user_type = answer.user_type.as_deref().and_then(Self::user_type);
        Self::compare("user type", user_type, Some(self.user_type))?;
        Self::compare(
            "location",
            answer.location_id.as_deref(),
            // An agency's token may name any of its locations.
            self.location,
        )?;
        Self::compare("company", answer.company_id.as_deref(), self.company)
    }

    /// A user type in GHL's spelling; `None` for any other word.
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
        let answer = Answer::parse(body.as_bytes()).unwrap();
        owner.check(&answer).err().map(|mismatch| mismatch.field)
    }

    #[test]
    fn an_answer_that_names_the_installation_or_nothing_matches() {
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
    fn an_answer_that_names_somebody_else_is_foreign() {
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
    fn an_installation_whose_company_is_unknown_matches_any() {
        let unknown = Owner {
            company: None,
            ..PLACE
        };
        assert_eq!(check(unknown, r#","locationId":"L","companyId":"D""#), None);
    }

    #[test]
    fn strange_fields_count_as_absent() {
        for fields in [
            r#","userType":"Robot""#,
            r#","userType":{"a":1},"locationId":[],"companyId":null"#,
        ] {
            assert_eq!(check(PLACE, fields), None, "{fields}");
        }
    }
}
