//! Static tokens from the settings: a private integration token, or a seed for smoke tests.

use std::time::Duration;

use service::shutdown::Shutdown;
use store::UserType;
use store_writer::grant::Registration;
use store_writer::{StoreWriter, WriteError};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::config::StaticToken;

/// Enrols them, trying until the store takes them.
pub(crate) async fn enrol(tokens: Vec<StaticToken>, writer: StoreWriter, shutdown: Shutdown) {
    for token in tokens {
        while let Err(error) = enrol_one(&token, &writer).await {
            warn!(
                error = &error as &dyn std::error::Error,
                "the static token waits for the store"
            );
            tokio::select! {
                biased;
                () = shutdown.started() => return,
                () = sleep(Duration::from_secs(1)) => {}
            }
        }
    }
}

async fn enrol_one(token: &StaticToken, writer: &StoreWriter) -> Result<(), WriteError> {
    let enrolment = Registration {
        access_token: token.token.clone(),
        refresh_token: None,
        expires_at: None,
        lifetime: Duration::ZERO,
        scopes: String::new(),
        user_type: UserType::Location,
        location: token.location.clone(),
        company: None,
    };
    match writer.register_static_token(&enrolment).await? {
        (id, true) => info!(installation = %id, "static token enrolled: it is never refreshed"),
        (id, false) => warn!(
            installation = %id,
            "GHL_ACCESS_TOKEN is not used: its location has been installed by consent"
        ),
    }
    Ok(())
}
