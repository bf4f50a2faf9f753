//! Finds the installation that a request names, and checks that its caller may use it.

use std::fmt;
use std::sync::Arc;

use store::{AppName, ExternalId, InstallationId, LocationId, Status, UserType};

use crate::request::body::Unexamined;
use crate::request::caller::AuthenticatedCaller;
use crate::request::owner::{TokenOwner, is_location_of};
use crate::request::selector::{
    Contradiction, InstallationSelector, InstallationSelectors, Kind, SelectorSource,
};
use crate::token::cache::{Cache, Unavailable};
use crate::token::location_lookup::{LocationLookup, NoAnswer, Wanted};
use crate::token::sources::{ByApp, Owners, Token, Tokens};

/// Finds installations. Clones share their caches.
#[derive(Clone)]
pub(crate) struct Selection {
    pub(crate) tokens: Cache<Tokens>,
    pub(crate) owners: Cache<Owners>,
    pub(crate) lookup: Arc<LocationLookup>,
}

/// Why no installation was found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SelectError {
    #[error(
        "Installation not found: the request names none. The gateway looks at {}",
        AllSources
    )]
    NotNamed,
    #[error("Installation not found: {name}, named by {source_name}, is unknown")]
    Unknown {
        name: String,
        source_name: &'static str,
    },
    #[error(
        "Installation not found: the request names none outside its body, and the body was not examined completely: {0}"
    )]
    BodyNotExamined(Unexamined),
    #[error("{name}, named by {source_name}, has an installation of each of these apps: {apps}")]
    Ambiguous {
        name: String,
        source_name: &'static str,
        /// Their names, separated by commas.
        apps: String,
    },
    #[error("The API key is not for this installation")]
    NotAllowed,
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    #[error(transparent)]
    NotLookedUp(#[from] NoAnswer),
    #[error(transparent)]
    Store(#[from] Unavailable),
}

/// The apps whose installations a call may take.
#[derive(Clone, Copy)]
struct AppFilter<'a> {
    /// That of the caller's key.
    of_key: Option<&'a AppName>,
    /// That which the request names.
    named: Option<&'a str>,
}

impl AppFilter<'_> {
    fn includes(&self, app: &AppName) -> bool {
        self.of_key.is_none_or(|its| its == app) && self.named.is_none_or(|its| its == app.as_str())
    }

    /// The only one. `None` if it can be any, or none that exists.
    fn only(&self) -> Option<AppName> {
        let named = || self.named.and_then(|name| name.parse().ok());
        self.of_key.cloned().or_else(named)
    }
}

impl Selection {
    /// The token of the installation, from memory or from the store.
    pub(crate) async fn select(
        &self,
        caller: &AuthenticatedCaller,
        selectors: &InstallationSelectors<'_>,
        unexamined: Option<Unexamined>,
    ) -> Result<Arc<Token>, SelectError> {
        let mut no_answer = None;
        let filter = AppFilter {
            of_key: caller.app(),
            named: selectors.app.as_deref(),
        };
        for selector in selectors.iter() {
            let found = match self.find(caller, filter, selector).await {
                // A later selector may name a known installation.
                Err(SelectError::NotLookedUp(reason)) => {
                    no_answer = Some(reason);
                    None
                }
                found => found?,
            };
            match (found, selector.kind) {
                (Some(selected), _) => {
                    let other = self.other_owner(caller, selectors, &selected).await?;
                    let reaches = match caller {
                        // Its page must not choose among the agency's locations.
                        AuthenticatedCaller::Browser(_) => !names_a_location(selectors, &selected),
                        AuthenticatedCaller::Anonymous | AuthenticatedCaller::Caller(..) => true,
                    };
                    if other.is_none() && !(reaches && caller.may_use(&selected)) {
                        return Err(SelectError::NotAllowed);
                    }
                    selectors.agree_on(&selected, selector)?;
                    return Ok(other.unwrap_or(selected));
                }
                (None, Kind::Installation) if no_answer.is_none() => {
                    return Err(unknown(caller, selector));
                }
                // It may belong to an agency whose installation a later selector names.
                (None, _) => {}
            }
        }
        if let Some(reason) = no_answer {
            return Err(reason.into());
        }
        let first = selectors.iter().next();
        let Some(id) = caller.only_installation() else {
            return Err(match (first, unexamined) {
                (Some(selector), _) => unknown(caller, selector),
                // The request named nothing, so this reveals nothing.
                (None, Some(reason)) => SelectError::BodyNotExamined(reason),
                (None, None) => SelectError::NotNamed,
            });
        };
        let token = self.tokens.get(id).await?;
        let token = token.ok_or_else(|| SelectError::Unknown {
            name: id.to_string(),
            source_name: "the API key",
        })?;
        match first {
            _ if !filter.includes(&token.app) => Err(SelectError::NotAllowed),
            Some(selector) if !selectors.may_name(&token) => Err(unknown(caller, selector)),
            Some(_) | None => Ok(token),
        }
    }

    /// The token of another installation than the selected one, if the call takes that one, and the caller may use it.
    /// Without it the selected installation's token is used, and GHL decides.
    async fn other_owner(
        &self,
        caller: &AuthenticatedCaller,
        selectors: &InstallationSelectors<'_>,
        selected: &Token,
    ) -> Result<Option<Arc<Token>>, SelectError> {
        match TokenOwner::of(selectors, selected) {
            TokenOwner::Selected => Ok(None),
            // The request asks for an installation that the key is not for.
            TokenOwner::Location { .. } if !caller.may_use(selected) => Ok(None),
            TokenOwner::Location {
                selector,
                is_optional,
            } => {
                // The company's token is at hand, so nothing else has to work.
                let works =
                    |its: &Arc<Token>| matches!(its.status, Status::Active | Status::Static);
                let location = match self.find(caller, of_app(selected), selector).await {
                    Ok(found) => found.filter(|its| !is_optional || works(its)),
                    Err(_) if is_optional => None,
                    Err(error) => return Err(error),
                };
                let location =
                    location.filter(|its| is_location_of(its, selected) && caller.may_use(its));
                if let Some(token) = &location {
                    selectors.agree_on_location(token, selector)?;
                }
                Ok(location)
            }
            TokenOwner::Company(id) => {
                let of_app = |its: &ByApp| {
                    let of_app = its.iter().find(|(app, _)| *app == selected.app);
                    of_app.map(|(_, id)| id.clone())
                };
                let company = match self.resolve(id).await?.as_ref().and_then(of_app) {
                    Some(id) => self.tokens.get(&id).await?,
                    None => None,
                };
                Ok(company.filter(|its| is_location_of(selected, its) && caller.may_use(its)))
            }
        }
    }

    async fn find(
        &self,
        caller: &AuthenticatedCaller,
        filter: AppFilter<'_>,
        selector: &InstallationSelector<'_>,
    ) -> Result<Option<Arc<Token>>, SelectError> {
        if selector.is_id() {
            let token = match self.tokens.peek(&*selector.value) {
                Some(token) => token,
                None => match selector.value.parse() {
                    Ok(id) => self.tokens.get(&id).await?,
                    Err(_) => None,
                },
            };
            return Ok(token.filter(|token| filter.includes(&token.app)));
        }
        if let Some(found) = self.resolve(&selector.value).await?
            && let Some(token) = self.choose(caller, filter, selector, &found).await?
        {
            return Ok(Some(token));
        }
        if selector.kind == Kind::Installation
            && let Ok(external_id) = selector.value.parse::<ExternalId>()
            && let Some(found) = self.installations(&external_id.index_name()).await?
            && let Some(token) = self.choose(caller, filter, selector, &found).await?
        {
            return Ok(Some(token));
        }
        match selector.kind {
            // Boxed, since it is rare and would make the future of every call larger.
            Kind::Location | Kind::Installation => {
                Box::pin(self.look_up(caller, filter, &selector.value)).await
            }
            Kind::Company => Ok(None),
        }
    }

    /// The token of one of the installations of a location or company, which are of different apps.
    async fn choose(
        &self,
        caller: &AuthenticatedCaller,
        filter: AppFilter<'_>,
        selector: &InstallationSelector<'_>,
        found: &ByApp,
    ) -> Result<Option<Arc<Token>>, SelectError> {
        let mut included = found.iter().filter(|(app, _)| filter.includes(app));
        match (included.next(), included.next()) {
            (None, _) => Ok(None),
            (Some((_, id)), None) => Ok(self.tokens.get(id).await?),
            (Some(_), Some(_)) => {
                Box::pin(self.choose_of_several(caller, filter, selector, found)).await
            }
        }
    }

    /// The only one that the caller may use. One that its customer has ended does not count beside one that works.
    async fn choose_of_several(
        &self,
        caller: &AuthenticatedCaller,
        filter: AppFilter<'_>,
        selector: &InstallationSelector<'_>,
        found: &ByApp,
    ) -> Result<Option<Arc<Token>>, SelectError> {
        let (mut live, mut ended, mut forbidden) = (Vec::new(), Vec::new(), None);
        for (_, id) in found.iter().filter(|(app, _)| filter.includes(app)) {
            let Some(token) = self.tokens.get(id).await? else {
                continue;
            };
            if !caller.may_use(&token) {
                forbidden = Some(token);
                continue;
            }
            match token.status {
                Status::Active | Status::Paused | Status::Static => live.push(token),
                Status::Invalid | Status::Revoked => ended.push(token),
            }
        }
        let usable = if live.is_empty() { ended } else { live };
        match usable.as_slice() {
            [] => Ok(forbidden),
            [only] => Ok(Some(only.clone())),
            several => {
                let apps: Vec<&str> = several.iter().map(|token| token.app.as_str()).collect();
                Err(SelectError::Ambiguous {
                    name: selector.value.to_string(),
                    source_name: selector.source.as_str(),
                    apps: apps.join(", "),
                })
            }
        }
    }

    /// The token of a location that GHL has not announced, if one of the agencies that the caller may use has it.
    async fn look_up(
        &self,
        caller: &AuthenticatedCaller,
        filter: AppFilter<'_>,
        name: &str,
    ) -> Result<Option<Arc<Token>>, SelectError> {
        let Ok(location) = name.parse() else {
            return Ok(None);
        };
        let agencies = match caller.installations() {
            None => Vec::new(),
            Some(allowed) => {
                let agencies = self.agencies_of(allowed).await?;
                if agencies.is_empty() {
                    return Ok(None);
                }
                agencies
            }
        };
        let wanted = Wanted {
            location,
            agencies,
            app: filter.only(),
        };
        let Some(id) = self.lookup.find(wanted).await? else {
            return Ok(None);
        };
        // Its absence may be cached.
        self.owners.invalidate(&name.into(), |_| true);
        self.tokens.invalidate(&id, |_| true);
        let token = self.tokens.get(&id).await?;
        Ok(token.filter(|token| filter.includes(&token.app)))
    }

    /// The agencies among these installations.
    async fn agencies_of(
        &self,
        allowed: &[InstallationId],
    ) -> Result<Vec<InstallationId>, Unavailable> {
        let mut agencies = Vec::new();
        for id in allowed {
            let token = self.tokens.get(id).await?;
            if token.is_some_and(|token| token.user_type == UserType::Company) {
                agencies.push(id.clone());
            }
        }
        Ok(agencies)
    }

    async fn resolve(&self, name: &str) -> Result<Option<ByApp>, Unavailable> {
        // A name that no location or company can have is not looked up.
        if name.parse::<LocationId>().is_err() {
            return Ok(None);
        }
        self.installations(name).await
    }

    /// The installations with a name of the index.
    async fn installations(&self, name: &str) -> Result<Option<ByApp>, Unavailable> {
        match self.owners.peek(name) {
            Some(found) => Ok(found),
            None => self.owners.get(&name.into()).await,
        }
    }
}

/// Whether a call with the token of an agency names one of its locations.
fn names_a_location(selectors: &InstallationSelectors<'_>, selected: &Token) -> bool {
    let is_agency = selected.user_type == UserType::Company;
    is_agency && selectors.iter().any(|it| it.kind == Kind::Location)
}

/// The locations and the company of an installation are of the same app.
fn of_app(selected: &Token) -> AppFilter<'_> {
    AppFilter {
        of_key: Some(&selected.app),
        named: None,
    }
}

/// A key for some installations must not reveal which others exist.
fn unknown(caller: &AuthenticatedCaller, selector: &InstallationSelector<'_>) -> SelectError {
    if caller.is_restricted() {
        return SelectError::NotAllowed;
    }
    SelectError::Unknown {
        name: selector.value.to_string(),
        source_name: selector.source.as_str(),
    }
}

struct AllSources;

impl fmt::Display for AllSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&SelectorSource::ALL.map(SelectorSource::as_str).join(", "))
    }
}
