//! Static tokens from the settings, such as a private integration token. They are never refreshed.

use std::sync::Arc;
use std::time::Duration;

use service::shutdown::Shutdown;
use store::{AppName, UserType};
use store_writer::grant::Registration;
use store_writer::writer::TokenOrigin;
use store_writer::{StoreWriter, WriteError};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::config::StaticToken;
use crate::refresh::worker::Worker;

/// Registers the tokens, with retries until the store takes them or shutdown begins.
pub(crate) async fn register(tokens: Vec<StaticToken>, worker: Arc<Worker>, shutdown: Shutdown) {
    tokio::select! {
        biased;
        () = shutdown.started() => return,
        () = worker.watch.wait_until_verified() => {}
    }
    for token in tokens {
        while let Err(error) = register_one(&token, &worker.writer).await {
            warn!(
                error = &error as &dyn std::error::Error,
                "the static token could not be stored and is tried again"
            );
            tokio::select! {
                biased;
                () = shutdown.started() => return,
                () = sleep(Duration::from_secs(1)) => {}
            }
        }
    }
}

async fn register_one(token: &StaticToken, writer: &StoreWriter) -> Result<(), WriteError> {
    let enrolment = Registration {
        app: AppName::default(),
        client: None,
        access_token: token.token.clone(),
        refresh_token: None,
        expires_at: None,
        lifetime: Duration::ZERO,
        scopes: String::new(),
        user_type: UserType::Location,
        location: token.location.clone(),
        company: None,
    };
    match writer
        .register_static_token(&enrolment, TokenOrigin::Settings)
        .await?
    {
        (id, true) => info!(installation = %id, "static token enrolled: it is never refreshed"),
        (id, false) => warn!(
            installation = %id,
            "GHL_ACCESS_TOKEN is not used: its location has been installed by consent"
        ),
    }
    Ok(())
}
