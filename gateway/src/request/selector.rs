//! Which installation a request is about. This is a pure decision over all values that name one.

use std::borrow::Cow;

use ghl::operations::{self, Operation, Segments};
use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;
use store::UserType;

use super::body_fields::BodyFields;
use super::{headers, query};
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
    HeaderLocation,
    QueryInstallation,
    QueryLocation,
    QueryLocationSnakeCase,
    QueryAlt,
    QueryCompany,
    Path,
    PathCompany,
    HeaderCompany,
    BodyLocation,
    BodyAlt,
    BodyCompany,
}

impl SelectorSource {
    /// In order of precedence.
    pub(crate) const ALL: [Self; 13] = [
        Self::Header,
        Self::HeaderLocation,
        Self::QueryInstallation,
        Self::QueryLocation,
        Self::QueryLocationSnakeCase,
        Self::QueryAlt,
        Self::QueryCompany,
        Self::Path,
        Self::PathCompany,
        Self::HeaderCompany,
        Self::BodyLocation,
        Self::BodyAlt,
        Self::BodyCompany,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Header => "the header X-Installation-Id",
            Self::HeaderLocation => "the header locationId",
            Self::HeaderCompany => "the header companyId",
            Self::QueryInstallation => "installation_id in the query",
            Self::QueryLocation => "locationId in the query",
            Self::QueryLocationSnakeCase => "location_id in the query",
            Self::QueryAlt => "altId in the query",
            Self::QueryCompany => "companyId in the query",
            Self::Path => "the path",
            Self::PathCompany => "the company in the path",
            Self::BodyLocation => "locationId in the body",
            Self::BodyAlt => "altId in the body",
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

/// A call to GHL.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'r> {
    pub(crate) method: &'r Method,
    /// GHL's path.
    pub(crate) path: &'r str,
}

/// All selectors of a request.
#[derive(Debug, Default)]
pub(crate) struct InstallationSelectors<'r> {
    found: [Option<InstallationSelector<'r>>; SelectorSource::ALL.len()],
    /// The operation of GHL, if the request is a call and GHL documents it.
    pub(crate) operation: Option<&'static Operation>,
    /// The app that the request names.
    pub(crate) app: Option<Cow<'r, str>>,
}

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
    /// From everything but the body. GHL documents where each operation names its location or company. The usual
    /// places are read for every request, since GHL adds operations.
    pub(crate) fn of(
        headers: &'r HeaderMap,
        query: Option<&'r str>,
        call: Option<Call<'r>>,
    ) -> Self {
        let mut selectors = Self {
            operation: call.and_then(|call| operations::find(call.method, call.path)),
            ..Self::default()
        }
        .with_app(headers);
        if let Some(named) = headers.get(headers::INSTALLATION) {
            // A header that is no text names an unknown installation. It must not leave the choice to the query.
            let name = String::from_utf8_lossy(named.as_bytes());
            selectors.put(SelectorSource::Header, Kind::Installation, name);
        }
        for (names, source, kind) in [
            (
                headers::LOCATION,
                SelectorSource::HeaderLocation,
                Kind::Location,
            ),
            (
                headers::COMPANY,
                SelectorSource::HeaderCompany,
                Kind::Company,
            ),
        ] {
            let named = names.iter().find_map(|name| headers.get(name));
            if let Some(named) = named.filter(|named| !named.is_empty()) {
                selectors.put(source, kind, String::from_utf8_lossy(named.as_bytes()));
            }
        }
        if let Some(query) = query {
            selectors.read_query(query);
        }
        if let Some(call) = call {
            selectors.read_path(call.path);
        }
        selectors
    }

    /// A single selector.
    pub(crate) fn single(source: SelectorSource, kind: Kind, value: &'r str) -> Self {
        let mut selectors = Self::default();
        selectors.put(source, kind, Cow::Borrowed(value));
        selectors
    }

    /// Adds the app that a header names. A header that is no text names an unknown app.
    pub(crate) fn with_app(mut self, headers: &'r HeaderMap) -> Self {
        let named = headers.get(headers::APP);
        self.app = named.map(|name| String::from_utf8_lossy(name.as_bytes()));
        self
    }

    /// For an operation that GHL's documents do not have.
    pub(crate) fn with_operation(mut self, operation: &'static Operation) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Adds the selectors of the body.
    pub(crate) fn with_body(mut self, body: &BodyFields<'_>) -> Self {
        let names = ["locationId", "companyId", "altId", "altType"];
        let [location, company, alt, alt_type] = body.texts(names);
        if let Some(id) = location {
            self.put(SelectorSource::BodyLocation, Kind::Location, Cow::Owned(id));
        }
        // In the body of other operations, `altId` is not a location.
        let has_alt = |its: &Operation| its.location.body.contains(&"altId");
        if let Some(id) = alt.filter(|_| self.operation.is_some_and(has_alt)) {
            let kind = kind_of_alt(alt_type.as_deref());
            self.put(SelectorSource::BodyAlt, kind, Cow::Owned(id));
        }
        if let Some(id) = company {
            self.put(SelectorSource::BodyCompany, Kind::Company, Cow::Owned(id));
        }
        self
    }

    /// Whether the request names an installation or a location, so that no body is needed for it. A body can say which
    /// of a company's locations is meant.
    pub(crate) fn names_owner(&self) -> bool {
        self.iter().any(|selector| match selector.kind {
            Kind::Installation | Kind::Location => true,
            Kind::Company => false,
        })
    }

    /// The location that the request is about, if it names one.
    pub(crate) fn location(&self) -> Option<&str> {
        let named = self.iter().find(|selector| selector.kind == Kind::Location);
        named.map(|selector| &*selector.value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &InstallationSelector<'r>> {
        self.found.iter().flatten()
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
        self.agree_with(chosen, |selector| selector.may_name(token))
    }

    /// As [`Self::agree_on`], for the token of a location whose company was selected. The selectors of installations
    /// name the company then.
    pub(crate) fn agree_on_location(
        &self,
        token: &Token,
        chosen: &InstallationSelector<'_>,
    ) -> Result<(), Contradiction> {
        self.agree_with(chosen, |selector| {
            selector.kind == Kind::Installation || selector.may_name(token)
        })
    }

    fn agree_with(
        &self,
        chosen: &InstallationSelector<'_>,
        agrees: impl Fn(&InstallationSelector<'_>) -> bool,
    ) -> Result<(), Contradiction> {
        let is_same = |selector: &InstallationSelector<'_>| {
            selector.kind == chosen.kind && selector.value == chosen.value
        };
        let odd = self
            .iter()
            .find(|selector| !is_same(selector) && !agrees(selector));
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
        let its = self.operation;
        let has_snake_case = its.is_some_and(|its| its.location.query.contains(&"location_id"));
        let has_company = its.is_some_and(|its| its.company.query.contains(&"companyId"));
        let mut alt_type = None;
        for (name, raw) in query::pairs(query).filter(|(_, raw)| !raw.is_empty()) {
            if name == query::INSTALLATION {
                let id = query::decoded(raw);
                self.put(SelectorSource::QueryInstallation, Kind::Installation, id);
                continue;
            }
            let (source, kind) = match &*query::decoded(name) {
                "locationId" => (SelectorSource::QueryLocation, Kind::Location),
                "location_id" if has_snake_case => {
                    (SelectorSource::QueryLocationSnakeCase, Kind::Location)
                }
                "altId" => (SelectorSource::QueryAlt, Kind::Location),
                "companyId" if has_company => (SelectorSource::QueryCompany, Kind::Company),
                "altType" => {
                    alt_type.get_or_insert_with(|| query::decoded(raw));
                    continue;
                }
                _ => continue,
            };
            self.put(source, kind, query::decoded(raw));
        }
        if let Some(alt) = &mut self.found[SelectorSource::QueryAlt as usize] {
            alt.kind = kind_of_alt(alt_type.as_deref());
        }
    }

    fn read_path(&mut self, path: &'r str) {
        let location = match self.operation {
            Some(operation) => operation.location.in_path(path),
            None => location_in_unknown(path),
        };
        let company = self.operation.and_then(|its| its.company.in_path(path));
        let decoded = |segment: &'r str| percent_decode_str(segment).decode_utf8_lossy();
        if let Some(segment) = location {
            self.put(SelectorSource::Path, Kind::Location, decoded(segment));
        }
        if let Some(segment) = company {
            self.put(SelectorSource::PathCompany, Kind::Company, decoded(segment));
        }
    }

    /// Of several in one source, the first counts. GHL validates the others.
    fn put(&mut self, source: SelectorSource, kind: Kind, value: Cow<'r, str>) {
        self.found[source as usize].get_or_insert(InstallationSelector {
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

/// The kind of thing that `altId` names.
fn kind_of_alt(alt_type: Option<&str>) -> Kind {
    match alt_type {
        Some("company") => Kind::Company,
        Some(_) | None => Kind::Location,
    }
}

/// The location in `/locations/{id}` and below, for operations that GHL does not document.
fn location_in_unknown(path: &str) -> Option<&str> {
    let mut segments = Segments::of(path);
    let first = segments.next()?;
    let is_locations = percent_decode_str(first)
        .map(|byte| byte.to_ascii_lowercase())
        .eq(*b"locations");
    // `search` is an operation, not a location.
    segments.next().filter(|id| is_locations && *id != "search")
}

#[cfg(test)]
mod tests;
