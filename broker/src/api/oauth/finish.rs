//! The end of a consent: its outcome, and the response to a browser that comes again.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use store::consent_state;
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use super::Callback;
use super::exchange::{self, Connected};
use crate::Broker;
use crate::api::error::{Error, ErrorKind};
use crate::apps::App;
use crate::connect::context::Carried;
use crate::connect::outcome::Status;
use crate::connect::{Context, Outcome, link};
use crate::metrics;

/// How long a browser waits for the store, in addition to the timeout of the token endpoint.
const STORE_TIME: Duration = Duration::from_secs(5);
/// How often a second request of the same browser looks for the outcome of the first one.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The browser of a callback.
pub(super) struct Browser {
    pub(super) address: IpAddr,
    /// The state, if this browser began the consent.
    pub(super) state: Option<String>,
}

/// The outcome of a consent that this browser has finished before. A reload is harmless.
pub(super) async fn recorded(broker: &Broker, state: Option<&str>) -> Option<Outcome> {
    let text = broker.0.writer.consent_outcome(state?).await.ok()??;
    serde_json::from_str(&text).ok()
}

/// The state of a consent when its browser comes back.
enum Begun {
    Open(Context),
    /// Somebody has connected with the one-time link meanwhile.
    Finished(Outcome),
}

/// Connects with the code of a callback. The outcome is recorded for a browser that comes again.
pub(super) async fn finish(
    broker: &Broker,
    app: &Arc<App>,
    callback: Callback,
    browser: Browser,
) -> (Outcome, Option<Error>) {
    let context = match begun(broker, browser.state.as_deref()).await {
        Ok(Begun::Open(context)) => context,
        Ok(Begun::Finished(outcome)) => return (outcome, None),
        Err(error) => {
            metrics::consent_ended(Some(error.kind));
            return (Outcome::of_error(app.name.clone(), &error), Some(error));
        }
    };
    let state = browser.state.clone();
    // Run in a task of its own: once the code is spent, a browser that disconnects must not lose the tokens.
    let wait_at_most = broker.0.config.timing.call + STORE_TIME;
    let work = {
        let (broker, app, context) = (broker.clone(), app.clone(), context.clone());
        broker.0.shutdown.clone().spawn(async move {
            match exchange::connect(&broker, &app, callback, &context, &browser).await {
                Ok(connected) => {
                    let (outcome, problem) = outcome_of(&broker, &context, &connected).await;
                    metrics::consent_ended(problem);
                    record(&broker, browser.state.as_deref(), &context, &outcome).await;
                    (outcome, None)
                }
                Err(error) => {
                    metrics::consent_ended(Some(error.kind));
                    let outcome = failed(&app, &context, &error);
                    if has_used_state(&error) {
                        record(&broker, browser.state.as_deref(), &context, &outcome).await;
                    }
                    (outcome, Some(error))
                }
            }
        })
    };
    let with = |error: Error| (failed(app, &context, &error), Some(error));
    match timeout(wait_at_most, work).await {
        Ok(Ok((outcome, Some(error)))) if error.kind == ErrorKind::ConsentStateInvalid => {
            // An impatient person reloads the page, and the first request still waits for GHL.
            match outcome_of_first(broker, state.as_deref(), wait_at_most).await {
                Some(outcome) => (outcome, None),
                None => (outcome, Some(error)),
            }
        }
        Ok(Ok(finished)) => finished,
        Ok(Err(_)) => with(Error::new(
            ErrorKind::BrokerStopping,
            "The broker is stopping",
        )),
        // The task continues to wait for GHL's response.
        Err(_) => with(
            Error::new(ErrorKind::ConsentPending, "GHL has not answered yet")
                .with_hint("the app is connected as soon as GHL answers; start again if it is not in 5 minutes"),
        ),
    }
}

/// The outcome of the request that used the state of this one. `None` if there is none within `patience`.
async fn outcome_of_first(
    broker: &Broker,
    state: Option<&str>,
    patience: Duration,
) -> Option<Outcome> {
    let deadline = Instant::now() + patience;
    let (ring, now) = (&broker.0.writer.rings().access, broker.0.reader.now());
    consent_state::verify(ring, state?, now)?;
    while Instant::now() < deadline {
        if let Some(outcome) = recorded(broker, state).await {
            return Some(outcome);
        }
        sleep(LOOK_EVERY).await;
    }
    None
}

/// Whether the state is used up. Otherwise the customer may go back to GHL's page and decide anew.
fn has_used_state(error: &Error) -> bool {
    !matches!(
        error.kind,
        ErrorKind::ConsentDenied | ErrorKind::ConsentStateInvalid | ErrorKind::StoreUnavailable
    )
}

fn failed(app: &App, context: &Context, error: &Error) -> Outcome {
    Outcome {
        return_to: context.return_to.clone(),
        external_id: context.customer.customer.external_id.clone(),
        may_begin_again: context.link.is_none(),
        ..Outcome::of_error(app.name.clone(), error)
    }
}

/// The outcome of a consent whose state is too old, or of another browser. The browser goes where the link said, which was
/// checked when the state was signed.
pub(super) async fn with_origin(broker: &Broker, state: &str, outcome: Outcome) -> Outcome {
    let ring = &broker.0.writer.rings().access;
    let state = consent_state::read(ring, state);
    match state.and_then(|state| Carried::parse(&state.context?)) {
        None => outcome,
        Some(Carried::Public {
            return_to,
            external_id,
        }) => Outcome {
            return_to,
            external_id,
            ..outcome
        },
        Some(Carried::Link { link: name }) => {
            let link = link::find(&broker.0.writer, &name).await.ok().flatten();
            Outcome {
                external_id: link.as_ref().and_then(|it| it.customer.external_id.clone()),
                return_to: link.and_then(|it| it.return_to),
                // The public link would lose the customer.
                may_begin_again: false,
                ..outcome
            }
        }
    }
}

/// The context of this consent, or its outcome if its one-time link is used up.
async fn begun(broker: &Broker, state: Option<&str>) -> Result<Begun, Error> {
    let (ring, now) = (&broker.0.writer.rings().access, broker.0.reader.now());
    let state = state.and_then(|state| consent_state::verify(ring, state, now));
    let carried = state.and_then(|state| Carried::parse(&state.context?));
    match carried {
        None => Ok(Begun::Open(Context::default())),
        Some(Carried::Public {
            return_to,
            external_id,
        }) => Ok(Begun::Open(Context::of_public(return_to, external_id))),
        Some(Carried::Link { link: name }) => {
            let found = link::find(&broker.0.writer, &name).await?;
            let mut link = found.ok_or_else(|| {
                Error::new(ErrorKind::ConnectLinkUnknown, "This link has expired")
                    .with_hint("ask for a new link")
            })?;
            // Otherwise a second customer would take the external id from the first one.
            match link.finished.take() {
                Some(outcome) => Ok(Begun::Finished(outcome)),
                None => Ok(Begun::Open(Context::of_link(name, link))),
            }
        }
    }
}

/// The outcome of a consent that brought tokens, and what is wrong with it. The tokens are stored, also those of another
/// account.
async fn outcome_of(
    broker: &Broker,
    context: &Context,
    connected: &Connected,
) -> (Outcome, Option<ErrorKind>) {
    let Connected {
        id,
        app,
        location,
        company,
        is_wanted,
    } = connected;
    let wanted = context.customer.customer.external_id.as_ref();
    let known = broker.0.writer.load(id).await.ok().flatten();
    let external_id = known.and_then(|known| known.installation.customer.external_id);
    let code = if !is_wanted {
        Some(ErrorKind::OtherOwner)
    } else if wanted.is_some() && wanted != external_id.as_ref() {
        Some(ErrorKind::ExternalIdTaken)
    } else {
        None
    };
    let outcome = Outcome {
        status: match code {
            Some(_) => Status::Error,
            None => Status::Connected,
        },
        app: app.clone(),
        installation_id: Some(id.clone()),
        location_id: location.clone(),
        company_id: company.clone(),
        // Never that of another customer, whose account this is.
        external_id: wanted.cloned().or(external_id),
        code: code.map(|kind| kind.code().to_owned()),
        may_begin_again: context.link.is_none(),
        return_to: context.return_to.clone(),
    };
    (outcome, code)
}

/// Records an outcome for a browser that comes again, and for those who open a one-time link again. Nothing depends on it.
async fn record(broker: &Broker, state: Option<&str>, context: &Context, outcome: &Outcome) {
    let writer = &broker.0.writer;
    let text = serde_json::to_string(outcome).unwrap_or_default();
    let recorded = async {
        if let Some(state) = state {
            writer.record_consent_outcome(state, &text).await?;
        }
        match &context.link {
            Some(name) if outcome.status == Status::Connected => {
                link::finish(writer, name, outcome).await
            }
            Some(_) | None => Ok(()),
        }
    };
    if let Err(error) = recorded.await {
        warn!(
            error = &error as &dyn std::error::Error,
            "the outcome of a consent is not recorded"
        );
    }
}
