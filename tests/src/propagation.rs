//! The time from the commit of a refresh until gateways serve the new token.

use std::time::Duration;

use reqwest::header::IF_NONE_MATCH;
use reqwest::{Client, StatusCode};
use store::{Generation, InstallationId};
use store_writer::StoreWriter;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::client;
use crate::fleet::Member;

/// Longer than any gateway may serve a replaced token.
const PATIENCE: Duration = Duration::from_secs(60);

/// The broker that refreshes, and the gateways to watch.
#[derive(Debug)]
pub struct PropagationProbe<'a> {
    pub client: Client,
    pub writer: StoreWriter,
    pub broker: &'a Member,
    pub gateways: &'a [Member],
    /// The pause between two requests to a gateway.
    pub pause: Duration,
}

impl PropagationProbe<'_> {
    /// Refreshes an installation whose token all gateways have cached. Returns the time until the last one served
    /// the new token.
    ///
    /// The time begins with the last read of the store that did not see the commit. It ends when the last gateway
    /// has returned the new token. So it includes both requests, and is never too short.
    ///
    /// # Panics
    /// If the refresh fails, a gateway returns no token, or serves the old one for a minute.
    pub async fn refresh(&self, id: &InstallationId) -> Duration {
        let held = self.generation(id).await.expect("the store answers");
        let url =
            |member: &Member, what| format!("{}/v1/installations/{id}/{what}", member.internal);
        let urls: Vec<String> = self.gateways.iter().map(|it| url(it, "token")).collect();
        for url in &urls {
            assert!(!serves_newer_token(&self.client, url, held).await, "{url}");
        }
        let mut served = JoinSet::new();
        for url in urls {
            let (client, pause) = (self.client.clone(), self.pause);
            served.spawn(async move {
                while !serves_newer_token(&client, &url, held).await {
                    if !pause.is_zero() {
                        sleep(pause).await;
                    }
                }
                Instant::now()
            });
        }
        let committed = async {
            loop {
                let read_at = Instant::now();
                if self.generation(id).await.is_some_and(|now| now > held) {
                    return read_at;
                }
            }
        };
        // The reads are sequential. So the last one without the commit began when the one before it ended.
        let refresh = self.client.post(url(self.broker, "refresh"));
        let (refreshed, committed, served) = timeout(PATIENCE, async {
            tokio::join!(client::send(refresh), committed, served.join_all())
        })
        .await
        .unwrap_or_else(|_| panic!("{id} is served with its old token for {PATIENCE:?}"));
        assert_eq!(refreshed.0, 200, "{}", refreshed.1);
        let last = served.into_iter().max().expect("gateways");
        last.saturating_duration_since(committed)
    }

    /// `None` if the store does not answer.
    async fn generation(&self, id: &InstallationId) -> Option<Generation> {
        let found = self.writer.load(id).await.ok()?;
        let snapshot = found.expect("it is installed");
        Some(snapshot.installation.access.generation)
    }
}

/// Whether the gateway at this URL has a token of another generation.
async fn serves_newer_token(client: &Client, url: &str, held: Generation) -> bool {
    let request = client.get(url).header(IF_NONE_MATCH, format!("\"{held}\""));
    let response = request.send().await.expect("a response");
    match response.status() {
        StatusCode::NOT_MODIFIED => false,
        StatusCode::OK => true,
        other => panic!("{other} from {url}"),
    }
}
