//! Which installation a request is about. This is a pure decision over all values that name one.

use std::borrow::Cow;

use http::HeaderMap;
use store::UserType;

use super::{headers, json, query};
use crate::token::sources::Token;

/// The kinds of things that a selector can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The installation itself, by its `install_…` id, its location or its company.
    Installation,
    Location,
    Company,
}

/// Where a selector was found, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SelectorSource {
    Header,
    QueryInstallation,
    QueryLocation,
    QueryAlt,
    Path,
    BodyLocation,
    BodyCompany,
}

impl SelectorSource {
    /// In order of precedence.
    pub(crate) const ALL: [Self; 7] = [
        Self::Header,
        Self::QueryInstallation,
        Self::QueryLocation,
        Self::QueryAlt,
        Self::Path,
        Self::BodyLocation,
        Self::BodyCompany,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Header => "the header X-Installation-Id",
            Self::QueryInstallation => "installation_id in the query",
            Self::QueryLocation => "locationId in the query",
            Self::QueryAlt => "altId in the query",
            Self::Path => "the path",
            Self::BodyLocation => "locationId in the body",
            Self::BodyCompany => "companyId in the body",
        }
    }
}

/// A value in the request that names an installation, a location or a company.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InstallationSelector<'r> {
    pub(crate) source: SelectorSource,
    pub(crate) kind: Kind,
    pub(crate) value: Cow<'r, str>,
}

/// All selectors of a request.
#[derive(Debug, Default)]
pub(crate) struct InstallationSelectors<'r>(
    [Option<InstallationSelector<'r>>; SelectorSource::ALL.len()],
);

/// Two selectors of one request that contradict each other.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "The request names two installations: {first} ({first_source}) and {second} ({second_source})"
)]
pub(crate) struct Contradiction {
    first: String,
    first_source: &'static str,
    second: String,
    second_source: &'static str,
}

impl<'r> InstallationSelectors<'r> {
    /// From everything but the body. `path` is GHL's path, if the caller chose it.
    pub(crate) fn of(
        headers: &'r HeaderMap,
        query: Option<&'r str>,
        path: Option<&'r str>,
    ) -> Self {
        let mut selectors = Self::default();
        if let Some(named) = headers.get(headers::INSTALLATION) {
            // A header that is no text names an unknown installation. It must not leave the choice to the query.
            let name = String::from_utf8_lossy(named.as_bytes());
            selectors.put(SelectorSource::Header, Kind::Installation, name);
        }
        if let Some(query) = query {
            selectors.read_query(query);
        }
        if let Some(id) = path.and_then(location_in_path) {
            selectors.put(SelectorSource::Path, Kind::Location, Cow::Borrowed(id));
        }
        selectors
    }

    /// A single selector.
    pub(crate) fn single(source: SelectorSource, kind: Kind, value: &'r str) -> Self {
        let mut selectors = Self::default();
        selectors.put(source, kind, Cow::Borrowed(value));
        selectors
    }

    /// Adds the selectors of a JSON body. A body that is not a JSON object has none here. GHL validates it. Invalid
    /// UTF-8 is replaced, as GHL's own parser does, so that it hides no selector.
    pub(crate) fn with_body(mut self, body: &[u8]) -> Self {
        let body = String::from_utf8_lossy(body);
        if !body.is_empty()
            && let Ok([location, company]) =
                json::members(body.as_bytes(), ["locationId", "companyId"])
        {
            if let Some(id) = json::text(location) {
                self.put(SelectorSource::BodyLocation, Kind::Location, Cow::Owned(id));
            }
            if let Some(id) = json::text(company) {
                self.put(SelectorSource::BodyCompany, Kind::Company, Cow::Owned(id));
            }
        }
        self
    }

    /// The location that the request is about, if it names one.
    pub(crate) fn location(&self) -> Option<&str> {
        let named = self.iter().find(|selector| selector.kind == Kind::Location);
        named.map(|selector| &*selector.value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &InstallationSelector<'r>> {
        self.0.iter().flatten()
    }

    /// Whether all selectors are compatible with this installation.
    pub(crate) fn may_name(&self, token: &Token) -> bool {
        self.iter().all(|selector| selector.may_name(token))
    }

    /// Checks that all selectors are compatible with the installation that `chosen` selected. Returns the first
    /// contradiction otherwise.
    pub(crate) fn agree_on(
        &self,
        token: &Token,
        chosen: &InstallationSelector<'_>,
    ) -> Result<(), Contradiction> {
        let odd = self
            .iter()
            .find(|selector| *selector != chosen && !selector.may_name(token));
        match odd {
            None => Ok(()),
            Some(odd) => Err(Contradiction {
                first: chosen.value.to_string(),
                first_source: chosen.source.as_str(),
                second: odd.value.to_string(),
                second_source: odd.source.as_str(),
            }),
        }
    }

    fn read_query(&mut self, query: &'r str) {
        let mut alt_kind = Kind::Location;
        for (name, raw) in query::pairs(query).filter(|(_, raw)| !raw.is_empty()) {
            match name {
                query::INSTALLATION => {
                    self.put(
                        SelectorSource::QueryInstallation,
                        Kind::Installation,
                        query::decoded(raw),
                    );
                }
                "locationId" => self.put(
                    SelectorSource::QueryLocation,
                    Kind::Location,
                    query::decoded(raw),
                ),
                "altId" => self.put(
                    SelectorSource::QueryAlt,
                    Kind::Location,
                    query::decoded(raw),
                ),
                "altType" if raw == "company" => alt_kind = Kind::Company,
                _ => {}
            }
        }
        if let Some(alt) = &mut self.0[SelectorSource::QueryAlt as usize] {
            alt.kind = alt_kind;
        }
    }

    /// Of several in one source, the first counts. GHL validates the others.
    fn put(&mut self, source: SelectorSource, kind: Kind, value: Cow<'r, str>) {
        self.0[source as usize].get_or_insert(InstallationSelector {
            source,
            kind,
            value,
        });
    }
}

impl InstallationSelector<'_> {
    /// Whether this is an installation's own id, well formed or not.
    pub(crate) fn is_id(&self) -> bool {
        self.kind == Kind::Installation && self.value.starts_with("install_")
    }

    fn may_name(&self, token: &Token) -> bool {
        let location = token.location.as_ref().map(|it| it.as_str());
        let company = token.company.as_ref().map(|it| it.as_str());
        let is = |own: Option<&str>| own.is_none_or(|own| own == self.value);
        match self.kind {
            Kind::Installation if self.is_id() => token.id.as_str() == self.value,
            Kind::Installation => match token.user_type {
                UserType::Location => is(location),
                UserType::Company => is(company),
            },
            Kind::Location => match token.user_type {
                UserType::Location => is(location),
                // An agency may act on any of its locations. Only GHL knows which these are.
                UserType::Company => true,
            },
            Kind::Company => is(company),
        }
    }
}

/// The location in `/locations/{id}` and below.
fn location_in_path(path: &str) -> Option<&str> {
    let id = path.strip_prefix("/locations/")?.split('/').next()?;
    // `search` is an operation, not a location.
    let is_location = !id.is_empty() && id != "search";
    is_location.then_some(id)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::token::sources::tests::token;

    const OWN: &str = "install_00112233445566778899aabb";
    const OTHER: &str = "install_ffffffffffffffffffffffff";

    fn selectors_of<'r>(query: &'r str, path: &'r str) -> InstallationSelectors<'r> {
        let none = Box::leak(Box::new(HeaderMap::new()));
        InstallationSelectors::of(none, Some(query), Some(path))
    }

    fn values<'h>(selectors: &'h InstallationSelectors<'_>) -> Vec<(SelectorSource, &'h str)> {
        let values = selectors
            .iter()
            .map(|selector| (selector.source, &*selector.value));
        values.collect()
    }

    #[test]
    fn selectors_are_collected_in_order_of_precedence() {
        let mut headers = HeaderMap::new();
        headers.insert(headers::INSTALLATION, HeaderValue::from_static("H"));
        let query = "altId=A&x=1&locationId=L&installation_id=I&locationId=second";
        let selectors = InstallationSelectors::of(&headers, Some(query), Some("/locations/P/tags"))
            .with_body(br#"{"companyId":"C","locationId":"B"}"#);
        let expected = [
            (SelectorSource::Header, "H"),
            (SelectorSource::QueryInstallation, "I"),
            (SelectorSource::QueryLocation, "L"),
            (SelectorSource::QueryAlt, "A"),
            (SelectorSource::Path, "P"),
            (SelectorSource::BodyLocation, "B"),
            (SelectorSource::BodyCompany, "C"),
        ];
        assert_eq!(values(&selectors), expected);
    }

    #[test]
    fn empty_or_unrelated_values_are_not_selectors() {
        for path in ["/locations/search", "/locations/", "/contacts/locations/x"] {
            let selectors =
                selectors_of("installation_id=&locationId&my_altId=x", path).with_body(b"not json");
            assert_eq!(values(&selectors), [], "{path}");
        }
    }

    #[test]
    fn invalid_utf8_hides_no_selector() {
        let body = b"{\"locationId\":\"L\",\"companyId\":\"\xff\"}";
        let selectors = InstallationSelectors::default().with_body(body);
        assert_eq!(selectors.location(), Some("L"));
    }

    #[test]
    fn alt_type_decides_the_kind_of_alt_id() {
        let kind = |query| selectors_of(query, "/").iter().next().unwrap().kind;
        assert_eq!(kind("altId=x"), Kind::Location);
        assert_eq!(kind("altId=x&altType=location"), Kind::Location);
        assert_eq!(kind("altType=company&altId=x"), Kind::Company);
    }

    fn agrees(token: &Token, query: &str, path: &str, body: &str) -> bool {
        let selectors = selectors_of(query, path).with_body(body.as_bytes());
        selectors
            .agree_on(token, selectors.iter().next().unwrap())
            .is_ok()
    }

    #[test]
    fn location_token_conflicts_with_another_location_or_company() {
        let token = token();
        let own = format!("installation_id={OWN}");
        for (query, path, body) in [
            (
                "&locationId=LOC1",
                "/locations/LOC1",
                r#"{"locationId":"LOC1","companyId":"COM1"}"#,
            ),
            ("&altId=COM1&altType=company", "/", ""),
        ] {
            assert!(agrees(&token, &format!("{own}{query}"), path, body));
        }
        for (query, path, body) in [
            ("&locationId=LOC2", "/", ""),
            ("&altId=LOC2", "/", ""),
            ("", "/locations/LOC2", ""),
            ("", "/", r#"{"locationId":"LOC2"}"#),
            ("", "/", r#"{"companyId":"COM2"}"#),
        ] {
            assert!(!agrees(&token, &format!("{own}{query}"), path, body));
        }
    }

    #[test]
    fn agency_token_accepts_any_location_but_no_other_company() {
        let token = Token {
            user_type: UserType::Company,
            location: None,
            ..token()
        };
        let own = format!("installation_id={OWN}");
        assert!(agrees(
            &token,
            &own,
            "/locations/LOC9",
            r#"{"locationId":"LOC8"}"#
        ));
        assert!(agrees(
            &token,
            "installation_id=COM1",
            "/",
            r#"{"companyId":"COM1"}"#
        ));
        assert!(!agrees(&token, &own, "/", r#"{"companyId":"COM2"}"#));
    }

    #[test]
    fn contradiction_names_both_values_and_sources() {
        let mut headers = HeaderMap::new();
        headers.insert(headers::INSTALLATION, HeaderValue::from_static(OWN));
        let query = format!("installation_id={OTHER}");
        let selectors = InstallationSelectors::of(&headers, Some(&query), None);
        let error = selectors
            .agree_on(&token(), selectors.iter().next().unwrap())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "The request names two installations: {OWN} (the header X-Installation-Id) \
                 and {OTHER} (installation_id in the query)"
            )
        );
    }

    #[test]
    fn location_id_is_never_taken_for_an_installation_id() {
        let query = format!("installation_id={OWN}&locationId={OTHER}");
        let selectors = selectors_of(&query, "/");
        let ids: Vec<bool> = selectors.iter().map(InstallationSelector::is_id).collect();
        assert_eq!(ids, [true, false]);
    }
}
