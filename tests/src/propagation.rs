//! From the commit of a refresh in the store until gateways serve its token.

use std::time::Duration;

use reqwest::header::IF_NONE_MATCH;
use reqwest::{Client, StatusCode};
use store::{Generation, InstallationId};
use store_writer::StoreWriter;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::client;
use crate::fleet::Member;

/// Longer than any token is served that the store has another one for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who refreshes, and who is to notice.
#[derive(Debug)]
pub struct PropagationProbe<'a> {
    pub client: Client,
    pub writer: StoreWriter,
    pub broker: &'a Member,
    pub gateways: &'a [Member],
    /// Between two looks at a gateway.
    pub pause: Duration,
}

impl PropagationProbe<'_> {
    /// Refreshes an installation whose token all gateways hold; returns how long the last of them took.
    ///
    /// The time begins with the last look at the store that did not see the commit, and ends when the
    /// last gateway has answered with the new token: it is not too short, and both looks are in it.
    ///
    /// # Panics
    /// When the refresh fails, a gateway gives no token, or serves the old one for a minute.
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
        // One look after the other, so the last one in vain began when the one before it ended.
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

    /// `None` where the store does not answer.
    async fn generation(&self, id: &InstallationId) -> Option<Generation> {
        let found = self.writer.load(id).await.ok()?;
        let snapshot = found.expect("it is installed");
        Some(snapshot.installation.access.generation)
    }
}

/// Whether the gateway at this URL has another token than that of this generation.
async fn serves_newer_token(client: &Client, url: &str, held: Generation) -> bool {
    let asked = client.get(url).header(IF_NONE_MATCH, format!("\"{held}\""));
    let answer = asked.send().await.expect("an answer");
    match answer.status() {
        StatusCode::NOT_MODIFIED => false,
        StatusCode::OK => true,
        other => panic!("{other} from {url}"),
    }
}
