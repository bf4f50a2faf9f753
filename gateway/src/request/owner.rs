//! Whose token a call takes: that of the selected installation, of its company, or of one of its locations. This is a
//! pure decision by the kind of token that GHL's operation takes.

use ghl::operations::TokenKind;
use store::UserType;

use super::selector::{InstallationSelector, InstallationSelectors, Kind};
use crate::token::sources::Token;

/// Whose token a call takes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TokenOwner<'r> {
    /// The selected installation's.
    Selected,
    /// That of the location that this selector names. A company is selected.
    Location {
        selector: &'r InstallationSelector<'r>,
        /// Whether GHL accepts the company's token, too.
        is_optional: bool,
    },
    /// That of the selected location's company.
    Company(&'r str),
}

impl<'r> TokenOwner<'r> {
    /// The owner for the operation of `selectors`, after one of them selected an installation.
    pub(crate) fn of(selectors: &'r InstallationSelectors<'r>, selected: &'r Token) -> Self {
        let Some(operation) = selectors.operation else {
            return Self::Selected;
        };
        let first = |kind| selectors.iter().find(|selector| selector.kind == kind);
        let other = match (operation.token, selected.user_type) {
            (TokenKind::Location | TokenKind::Either, UserType::Company) => {
                let is_optional = operation.token == TokenKind::Either;
                let location = first(Kind::Location);
                location.map(|selector| Self::Location {
                    selector,
                    is_optional,
                })
            }
            (TokenKind::Company, UserType::Location) => {
                let known = selected.company.as_ref().map(|id| id.as_str());
                let company = known.or_else(|| Some(&*first(Kind::Company)?.value));
                company.map(Self::Company)
            }
            (TokenKind::Location | TokenKind::Either, UserType::Location)
            | (TokenKind::Company, UserType::Company) => None,
        };
        other.unwrap_or(Self::Selected)
    }
}

/// Whether `location` is a location of `company`, as far as is known.
pub(crate) fn is_location_of(location: &Token, company: &Token) -> bool {
    let companies = location.company.as_ref().zip(company.company.as_ref());
    location.user_type == UserType::Location
        && company.user_type == UserType::Company
        && location.app == company.app
        && companies.is_none_or(|(its, company)| its == company)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;
    use crate::request::selector::Call;
    use crate::token::sources::tests::token;

    const LOCATIONS: &str = "/medias/upload-file";
    const COMPANIES: &str = "/saas/pause/LOC1";
    const EITHERS: &str = "/contacts/";
    const UNKNOWN: &str = "/unknown";

    fn company() -> Token {
        Token {
            user_type: UserType::Company,
            location: None,
            ..token()
        }
    }

    fn owner_of(path: &str, query: &str, selected: &Token) -> String {
        let (headers, method) = (HeaderMap::new(), &Method::POST);
        let call = Some(Call { method, path });
        let selectors = InstallationSelectors::of(&headers, Some(query), call);
        match TokenOwner::of(&selectors, selected) {
            TokenOwner::Selected => "selected".to_owned(),
            TokenOwner::Location {
                selector,
                is_optional,
            } => {
                let preferred = if is_optional { "preferred" } else { "needed" };
                format!("{} is {preferred}", selector.value)
            }
            TokenOwner::Company(id) => id.to_owned(),
        }
    }

    #[test]
    fn operation_decides_whose_token_is_taken() {
        let (location, company) = (token(), company());
        let named = "locationId=LOC1";
        let company_named = "altId=COM1&altType=company";
        for (path, query, selected, expected) in [
            (LOCATIONS, named, &location, "selected"),
            (LOCATIONS, named, &company, "LOC1 is needed"),
            (LOCATIONS, company_named, &company, "selected"),
            (LOCATIONS, "", &company, "selected"),
            (EITHERS, named, &location, "selected"),
            (EITHERS, named, &company, "LOC1 is preferred"),
            (EITHERS, "installation_id=COM1", &company, "selected"),
            (EITHERS, "", &location, "selected"),
            (COMPANIES, "", &location, "COM1"),
            (COMPANIES, company_named, &location, "COM1"),
            (COMPANIES, named, &company, "selected"),
            (UNKNOWN, named, &location, "selected"),
            (UNKNOWN, named, &company, "selected"),
        ] {
            let owner = owner_of(path, query, selected);
            assert_eq!(owner, expected, "{path}?{query} {:?}", selected.user_type);
        }
    }

    #[test]
    fn named_company_counts_if_the_location_does_not_know_its_own() {
        let location = Token {
            company: None,
            ..token()
        };
        let query = "altId=COM2&altType=company";
        assert_eq!(owner_of(COMPANIES, query, &location), "COM2");
        assert_eq!(owner_of(COMPANIES, "", &location), "selected");
    }

    #[test]
    fn location_belongs_to_its_own_company() {
        let with_company = |company: Option<&str>| Token {
            company: company.map(|id| id.parse().unwrap()),
            ..token()
        };
        assert!(is_location_of(&token(), &company()));
        assert!(is_location_of(&with_company(None), &company()));
        assert!(!is_location_of(&with_company(Some("COM2")), &company()));
        assert!(!is_location_of(&company(), &company()));
        assert!(!is_location_of(&token(), &token()));
    }
}
