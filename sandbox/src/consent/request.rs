//! The app's part of the consent page's URL.

use std::sync::Arc;

use url::Url;

use crate::app::App;
use crate::fields::Fields;

/// The scopes if the app's link names none.
const DEFAULT_SCOPE: &str = "contacts.readonly contacts.write locations.readonly medias.readonly \
                             medias.write oauth.readonly oauth.write products.readonly products.write";

/// The app's authorization request.
pub(super) struct AuthorizationRequest {
    pub(super) client: Arc<str>,
    pub(super) redirect_uri: Url,
    pub(super) scope: String,
}

impl AuthorizationRequest {
    /// Parses and checks the request, or says what is wrong with it.
    pub(super) fn read(app: &App, fields: &Fields) -> Result<Self, &'static str> {
        if fields.get("response_type") != Some("code") {
            return Err("response_type must be code");
        }
        let client = fields
            .get("client_id")
            .and_then(|client_id| app.apps.client(client_id))
            .ok_or("client_id is not that of a known app")?;
        let redirect_uri = fields
            .get("redirect_uri")
            .and_then(|uri| Url::parse(uri).ok())
            .filter(|uri| matches!(uri.scheme(), "http" | "https"))
            .ok_or("redirect_uri must be an http or https URL")?;
        Ok(Self {
            client: client.clone(),
            redirect_uri,
            scope: fields.get("scope").unwrap_or(DEFAULT_SCOPE).to_owned(),
        })
    }
}
