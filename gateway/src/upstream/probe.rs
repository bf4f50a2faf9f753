//! Looks at the start whether a broker can be reached over TLS. A gateway needs it only once a token is old, and by then
//! a wrong certificate would cost calls.

use std::time::Duration;

use http::{HeaderMap, Method, Uri};
use service::shutdown::Shutdown;
use tokio::time::sleep;
use tracing::info;

use super::body::{Outgoing, read};
use super::client::{SendError, Upstream};
use super::headers::OutboundHeaders;
use super::outbound::Outbound;

/// How often a broker is asked until it answers.
const INTERVAL: Duration = Duration::from_secs(5);

impl Upstream {
    /// Asks until there is an answer, whatever it is. Failures of TLS are logged as those of any other request.
    pub(crate) async fn probe(self, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.started() => return,
                answered = self.ask() => match answered {
                    Ok(()) => return info!(peer = %self.peer, "TLS works"),
                    Err(_) => sleep(INTERVAL).await,
                },
            }
        }
    }

    async fn ask(&self) -> Result<(), SendError> {
        let headers = HeaderMap::new();
        let request = Outbound {
            method: &Method::GET,
            uri: &Uri::from_static("/"),
            headers: OutboundHeaders::ToBroker(&headers),
        };
        let response = self.send(request, Outgoing::empty()).await?;
        // Read to its end, so that the connection can be used again.
        let _ = read(response.into_body(), 64 * 1024, INTERVAL).await;
        Ok(())
    }
}
