//! A row of another backend as an installation of one of this broker's apps.

use std::sync::Arc;
use std::time::Duration;

use ghl::TokenRow;
use ghl::token_row::Entry;
use secrecy::SecretString;
use store::{AppName, CompanyId, Customer, ExternalId, LocationId, Timestamp, UserType, customer};
use store_writer::grant::Registration;
use store_writer::writer::ImportRow;

use crate::apps::{App, AppSet};

/// No access token lives longer. A later expiry is that of the refresh token, as a rule.
const LONGEST_LIFETIME: Duration = Duration::from_secs(8 * 86_400);

/// The row and its app. `named`: the app of all rows.
///
/// # Errors
/// A message that says what to do. It quotes nothing of the row, because a value in a wrong field may be a token.
pub(super) fn parse(
    entry: &Entry<'_>,
    named: Option<&AppName>,
    apps: &AppSet,
    now: Timestamp,
) -> Result<(Arc<App>, ImportRow), String> {
    let raw = entry.raw.map_err(|error| error.to_string())?;
    let row = TokenRow::parse(raw, entry.key.as_deref()).map_err(|error| error.to_string())?;
    let app = app(&row, named, apps)?;
    let location = row.location_id.as_deref().map(str::parse::<LocationId>);
    let location = location
        .transpose()
        .map_err(|error| format!("`locationId`: {error}"))?;
    let company = row.company_id.as_deref().map(str::parse::<CompanyId>);
    let company = company
        .transpose()
        .map_err(|error| format!("`companyId`: {error}"))?;
    let user_type: UserType = row
        .user_type
        .parse()
        .map_err(|error| format!("`userType`: {error}"))?;
    let expires_at = row.expires_at_ms.map(Timestamp::from_millis);
    if expires_at.is_some_and(|at| at > now + LONGEST_LIFETIME) {
        return Err(
            "`expires_at` is more than a week ahead: it must be that of the access token, or be left out".to_owned(),
        );
    }
    let registration = Registration {
        app: app.name.clone(),
        client: Some(app.client.clone()),
        // Without one, the record has an empty token that has expired.
        access_token: row.access_token.unwrap_or_else(SecretString::default),
        refresh_token: None,
        expires_at,
        lifetime: row.lifetime,
        scopes: row.scope,
        user_type,
        location,
        company,
    };
    let external_id = row.external_id.as_deref().map(str::parse::<ExternalId>);
    let external_id = external_id.transpose();
    let customer = Customer {
        external_id: external_id.map_err(|error| format!("`external_id`: {error}"))?,
        tags: customer::parse_tags(&row.tags).map_err(|error| format!("`tags`: {error}"))?,
    };
    let issued_at = row.issued_at_ms.map(Timestamp::from_millis);
    let row = ImportRow::new(row.refresh_token, registration, issued_at, customer);
    Ok((app, row))
}

/// The app of a row. The request names it, or the row does by its name, its client id or its app id at GHL. Otherwise
/// it is the default app. A refresh token works only with the client id that it was issued to.
fn app(row: &TokenRow, named: Option<&AppName>, apps: &AppSet) -> Result<Arc<App>, String> {
    let is_client = |app: &&Arc<App>| row.client_id.as_deref() == Some(app.client.as_str());
    let is_at_ghl = |app: &&Arc<App>| row.application_id.as_deref() == Some(app.client.app_id());
    let found = match (named, &row.app) {
        (Some(named), _) => apps.named(named),
        (None, Some(own)) => {
            let own: Option<AppName> = own.parse().ok();
            let own = own.and_then(|own| apps.named(&own));
            own.ok_or(
                "`app` names an app that the settings of this broker do not have: add it, or name another one \
                 with --app",
            )
            .map(Some)?
        }
        (None, None) => {
            let by_client = apps.apps.iter().find(is_client);
            let unnamed = || apps.unnamed().filter(is_at_ghl);
            by_client
                .or_else(unnamed)
                .or_else(|| apps.apps.iter().find(is_at_ghl))
                .or(apps.unnamed())
        }
    };
    let app = found.ok_or("it does not say of which app it is: name it with --app")?;
    let is_other =
        |stated: &Option<String>, own: &str| stated.as_deref().is_some_and(|stated| stated != own);
    if is_other(&row.client_id, app.client.as_str())
        || is_other(&row.application_id, app.client.app_id())
    {
        return Err(format!(
            "its tokens were issued to another client id than that of the app {}, and work only with it: add an app \
             with that client id to the settings, and name it with --app",
            app.name
        ));
    }
    Ok(app.clone())
}
