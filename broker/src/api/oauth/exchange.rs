//! The exchange of a code for tokens, and their way into the store. A code is valid once.

use std::time::Duration;

use ghl::Failure;
use secrecy::ExposeSecret;
use store::{AppName, CompanyId, InstallationId, LocationId, consent_state};
use store_writer::WriteError;
use store_writer::consent::{Consent, NewCustomer};
use tokio::time::{Instant, timeout};
use tracing::{error, info, warn};

use super::finish::Browser;
use super::unverified::Unverified;
use super::{Callback, agency_location};
use crate::Broker;
use crate::api::error::{Error, ErrorKind};
use crate::apps::App;
use crate::audit;
use crate::connect::Context;
use crate::metrics;
use crate::refresh::crash_point::{self, Step};
use crate::refresh::refresh_log;

/// How long the exchange of a code may take. It is long because a code is valid once.
const MAX_WAIT: Duration = Duration::from_secs(5 * 60);
/// How long a consent waits until the store is verified as the one of this broker's journal and keys.
const VERIFY_TIME: Duration = Duration::from_secs(2);

/// The installation that a customer has connected.
pub(super) struct Connected {
    pub(super) id: InstallationId,
    pub(super) app: AppName,
    pub(super) location: Option<LocationId>,
    pub(super) company: Option<CompanyId>,
    /// Whether it is the account that the link asked for.
    pub(super) is_wanted: bool,
}

/// Exchanges the code of a callback, and stores the tokens.
pub(super) async fn connect(
    broker: &Broker,
    app: &App,
    callback: Callback,
    context: &Context,
    browser: &Browser,
) -> Result<Connected, Error> {
    let address = browser.address;
    if let Some(error) = callback.error {
        // The author of the link chose this text, so only the codes of OAuth are repeated.
        let is_code = error.len() <= 40
            && error
                .bytes()
                .all(|it| it.is_ascii_lowercase() || it == b'_');
        let error = if is_code { error.as_str() } else { "an error" };
        return Err(
            Error::new(ErrorKind::ConsentDenied, format!("GHL answered: {error}"))
                .with_hint("start again at /oauth/install"),
        );
    }
    let code = callback
        .code
        .filter(|code| !code.expose_secret().is_empty());
    let code = code.ok_or_else(|| {
        Error::new(ErrorKind::ConsentDenied, "The callback carries no code")
            .with_hint("start at /oauth/install")
    })?;
    check_state(broker, callback.state.as_deref(), browser.state.is_some()).await?;
    let counted = broker.0.consent_limits.count(address);
    counted.map_err(|after| {
        Error::new(
            ErrorKind::RateLimited,
            "Too many consents come from this address",
        )
        .with_hint("start again at /oauth/install in a moment")
        .retry_after(after)
    })?;
    prove_writable(broker).await?;
    ensure_usable(broker, app).await?;
    let requested_at = broker.0.reader.now();
    let sent_at = Instant::now();
    let exchanged = timeout(MAX_WAIT, app.endpoint.exchange(&code)).await;
    metrics::token_endpoint_answered(sent_at.elapsed());
    let response = exchanged
        .unwrap_or_else(|_| Err(Failure::Lost("GHL did not answer for 5 minutes".into())))
        .map_err(|failure| exchange_error(&failure))?;
    crash_point::reached(Step::Exchanged);
    let lifetime = response.lifetime().clone();
    let registration = Unverified {
        app: app.name.clone(),
        client: app.client.clone(),
        response,
        requested_at,
    }
    .verify()?;
    // Another account does not get the external id of the one that was asked for.
    let customer = match context.is_for(&registration) {
        true => context.customer.clone(),
        false => NewCustomer::default(),
    };
    let consent = Consent::new(requested_at, registration, customer);
    if let Err(error) = app.claim_name(&broker.0.writer).await {
        // It was free when this was asked before the exchange, or the store does not answer now.
        warn!(app = %app.name, error = &error as &dyn std::error::Error, "the name of the app is not noted");
    }
    let id = store_consent(broker, &consent).await?;
    let entry = audit::connected(&consent, &id).from(address);
    broker.0.audit.record(entry).await;
    let enrolment = consent.registration;
    refresh_log::lifetime(&id, &lifetime);
    let (in_location, in_company) = (&enrolment.location, &enrolment.company);
    info!(installation = %id, app = %app.name, location = in_location.as_ref().map(display),
        company = in_company.as_ref().map(display),
        user_type = %enrolment.user_type, "installed");
    let connected = Connected {
        is_wanted: context.is_for(&enrolment),
        id,
        app: enrolment.app,
        location: enrolment.location,
        company: enrolment.company,
    };
    // Boxed, since it is rare and would make the future of every consent larger.
    Box::pin(agency_location::choose(broker, context, connected)).await
}

/// Checks that the app's name is its own in this store, before a code is spent.
async fn ensure_usable(broker: &Broker, app: &App) -> Result<(), Error> {
    app.ensure_usable(&broker.0.writer).await.map_err(|error| {
        error!(app = %app.name, error = &error as &dyn std::error::Error, "a code is not exchanged");
        Error::new(ErrorKind::ConsentNotStored, "The installation could not be stored now")
            .with_hint("the log of the broker says why")
    })
}

/// Checks that GHL's response can be stored, before the code is spent. A code is valid once.
async fn prove_writable(broker: &Broker) -> Result<(), Error> {
    const HINT: &str = "start again at /oauth/install in a moment";
    let refuse = |reason: &(dyn std::error::Error + 'static)| {
        warn!(error = reason, "a code is not exchanged");
        Error::new(
            ErrorKind::ConsentNotStored,
            "The installation could not be stored now",
        )
        .with_hint(HINT)
    };
    let watch = &broker.0.worker.watch;
    // Just after a start. The check that follows has the reason if the store is unreachable.
    let _ = timeout(VERIFY_TIME, watch.wait_until_verified()).await;
    watch.ensure_verified().map_err(|reason| refuse(&reason))?;
    let ready = broker.0.worker.ready_to_spend();
    ready.map_err(|reason| refuse(&reason))?;
    let proved = broker.0.writer.prove_writable().await;
    proved.map_err(|error| refuse(&error))
}

/// Checks the `state` of a callback: issued here to this browser, at most ten minutes old, used once. Otherwise an
/// attacker could make a customer's browser connect the attacker's account (login CSRF).
async fn check_state(
    broker: &Broker,
    state: Option<&str>,
    is_own_browser: bool,
) -> Result<(), Error> {
    const HINT: &str = "start again at /oauth/install";
    let (ring, now) = (&broker.0.writer.rings().access, broker.0.reader.now());
    let is_valid = |state: &str| consent_state::verify(ring, state, now).is_some();
    match state {
        Some(state) if is_valid(state) && !is_own_browser => Err(Error::new(
            ErrorKind::ConsentStateInvalid,
            "This consent was started in another browser, or this one keeps no cookies",
        )
        .with_hint(HINT)),
        Some(state) if is_valid(state) && broker.0.writer.use_consent_state(state).await? => Ok(()),
        Some(_) => Err(Error::new(
            ErrorKind::ConsentStateInvalid,
            "This link is not from here, was used before, or is older than ten minutes",
        )
        .with_hint(HINT)),
        None if broker.0.config.is_state_required => Err(Error::new(
            ErrorKind::ConsentStateInvalid,
            "The callback carries no state",
        )
        .with_hint(
            "start at /oauth/install; EVERGREEN_REQUIRE_STATE=false allows installations that begin in GHL's \
             marketplace",
        )),
        // Anybody may install a public app, and GHL's marketplace has no state for us. Nothing but the installation
        // itself follows from it.
        None => Ok(()),
    }
}

/// Stores the tokens of a consent. The code is spent by now, so a failed write is retried, first here and
/// then from the journal.
async fn store_consent(broker: &Broker, consent: &Consent) -> Result<InstallationId, Error> {
    let worker = &broker.0.worker;
    worker.keep_consent(consent).await;
    crash_point::reached(Step::ConsentJournaled);
    let mut pause = Duration::from_millis(50);
    for _ in 0..6 {
        match broker.0.writer.register_consent(consent).await {
            Ok(id) => {
                crash_point::reached(Step::ConsentStored);
                worker.forget_consent(consent).await;
                broker.0.lookups.forget_unknown();
                return Ok(id);
            }
            Err(
                WriteError::Unavailable(_)
                | WriteError::Contended(_)
                | WriteError::Refused(_)
                | WriteError::Unconfirmed(_),
            ) => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            Err(error) => return Err(error.into()),
        }
    }
    error!(
        "a consent could not be stored: it is in the journal until the store is reachable again"
    );
    Err(Error::new(
        ErrorKind::ConsentNotStored,
        "The installation is not stored yet",
    )
    .with_hint("it is stored as soon as the store is reachable again; no action is needed"))
}

fn exchange_error(failure: &Failure) -> Error {
    warn!(
        error = failure as &dyn std::error::Error,
        "a code was not exchanged"
    );
    // Strangers get only the kind of the error. The log has GHL's text.
    let message = match failure {
        Failure::NotSent(_) => "GHL could not be reached",
        Failure::Lost(_) => "GHL did not answer completely",
        Failure::Unreadable { .. } | Failure::Foreign { .. } => "GHL's answer cannot be used",
        Failure::Unavailable { .. } => "GHL is not available",
        Failure::LocationInactive => "The location is not active at GHL",
        Failure::InvalidGrant(_) => "GHL does not accept the code",
        Failure::ClientRejected(_) => "GHL does not accept this app's credentials",
        Failure::BadRequest { .. } => "GHL did not understand the request",
    };
    let kind = match failure {
        Failure::NotSent(_)
        | Failure::Lost(_)
        | Failure::Unreadable { .. }
        | Failure::Foreign { .. }
        | Failure::Unavailable { .. }
        | Failure::ClientRejected(_)
        | Failure::BadRequest { .. } => ErrorKind::ConsentFailed,
        Failure::LocationInactive | Failure::InvalidGrant(_) => ErrorKind::ConsentRejected,
    };
    Error::new(kind, message).with_hint("start again at /oauth/install")
}
