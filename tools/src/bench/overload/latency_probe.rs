//! Callers that measure the latency of successful calls only. wrk mixes successful and rejected calls, so these run
//! beside it.

use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{RequestBuilder, Response};
use secrecy::ExposeSecret;
use tests::client;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::bench::wrk::Callers;

/// The number of callers, and the pause of each between a response and its next call.
const CALLERS: usize = 8;
const PAUSE: Duration = Duration::from_millis(20);

/// The responses that they received.
#[derive(Debug, Default)]
pub(super) struct LatencyProbe {
    /// The latencies of successful calls, ascending.
    served: Vec<Duration>,
    pub(super) refused: usize,
    /// Responses that are neither a success nor a rejection by the gateway.
    pub(super) unexpected: Vec<String>,
}

impl LatencyProbe {
    pub(super) async fn call_for(length: Duration, url: &str, callers: &Callers) -> Self {
        let (client, until) = (client::new(), Instant::now() + length);
        let Callers { key, ids, .. } = callers;
        let get = client.get(url).bearer_auth(key.expose_secret());
        let mut calling = JoinSet::new();
        for some in ids.chunks(ids.len().div_ceil(CALLERS)) {
            let (get, some) = (get.try_clone().expect("no body"), some.to_vec());
            calling.spawn(async move {
                let mut probe = Self::default();
                for id in some.iter().cycle().take_while(|_| Instant::now() < until) {
                    let get = get.try_clone().expect("no body");
                    probe
                        .call(get.header("X-Installation-Id", id.as_str()))
                        .await;
                    sleep(PAUSE).await;
                }
                probe
            });
        }
        let mut all = Self::default();
        for probe in calling.join_all().await {
            all.served.extend(probe.served);
            all.refused += probe.refused;
            all.unexpected.extend(probe.unexpected);
        }
        all.served.sort_unstable();
        all
    }

    async fn call(&mut self, request: RequestBuilder) {
        let began = Instant::now();
        let answered = async {
            let response = request.send().await?;
            let (status, is_refusal) = (response.status(), is_refusal(&response));
            response.bytes().await?;
            reqwest::Result::Ok((status, is_refusal))
        };
        match answered.await {
            Ok((status, _)) if status.is_success() => self.served.push(began.elapsed()),
            Ok((_, true)) => self.refused += 1,
            Ok((status, false)) => self.unexpected.push(status.to_string()),
            Err(error) => self.unexpected.push(error.to_string()),
        }
    }

    /// A percentile of the latencies of successful calls.
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        let last = self.served.len().saturating_sub(1);
        self.served
            .get(last * percent / 100)
            .copied()
            .unwrap_or_default()
    }
}

/// Whether the gateway rejected the call because of overload.
fn is_refusal(response: &Response) -> bool {
    response.status() == 503 && response.headers().contains_key(RETRY_AFTER)
}
