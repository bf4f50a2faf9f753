//! Compares the ledger with the store, and reports violations.

use std::fmt;

use reqwest::Client;
use serde_json::Value;
use tests::client;
use tests::fleet::Fleet;
use tests::sentinel::Sentinel;

#[derive(Debug)]
pub(crate) struct Violation {
    what: String,
    /// The installation and its location, as logs name them.
    pub(crate) about: Vec<String>,
    detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            about,
            detail,
        } = self;
        write!(f, "VIOLATION {what}: {}\n  {detail}", about.join(" "))
    }
}

#[derive(Debug)]
pub(crate) struct Audit {
    ledger: Value,
    pub(crate) violations: Vec<Violation>,
}

impl Audit {
    /// `not_refreshed`: the responses of failed final refreshes.
    pub(crate) async fn of(
        fleet: &Fleet<Sentinel>,
        installations: &[String],
        not_refreshed: &[(String, String)],
    ) -> Self {
        let ledger = fleet.sandbox.ledger().await;
        let mut violations = Vec::new();
        for (number, id) in installations.iter().enumerate() {
            let location = format!("loc{number:03}");
            let about = vec![id.clone(), location.clone()];
            let chain = fleet.sandbox.chain(&location).await;
            let spent_twice: Vec<&Value> = tokens(&chain)
                .filter(|token| token["spent_outside_grace"] != 0)
                .collect();
            if !spent_twice.is_empty() {
                violations.push(Violation {
                    what: "spent twice outside the grace".to_owned(),
                    about: about.clone(),
                    detail: Value::from(spent_twice.into_iter().cloned().collect::<Vec<_>>())
                        .to_string(),
                });
            }
            let answered = not_refreshed.iter().find(|(failed, _)| failed == id);
            if let Some((_, response)) = answered {
                violations.push(Violation {
                    what: "cannot be refreshed any more".to_owned(),
                    about,
                    detail: format!("{response}\n  {}", record(&fleet.client, fleet, id).await),
                });
            }
        }
        for never in ["calls_with_expired_token", "calls_with_unknown_token"] {
            if ledger[never] != 0 {
                violations.push(Violation {
                    what: never.to_owned(),
                    about: Vec::new(),
                    detail: ledger.to_string(),
                });
            }
        }
        Self { ledger, violations }
    }
}

fn tokens(chain: &Value) -> impl Iterator<Item = &Value> {
    let grants = chain["installations"].as_array().into_iter().flatten();
    grants.flat_map(|grant| grant["tokens"].as_array().into_iter().flatten())
}

async fn record(client: &Client, fleet: &Fleet<Sentinel>, id: &str) -> Value {
    let url = format!("{}/v1/installations/{id}", fleet.brokers[0].internal);
    client::get(client, &url).await.1
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |name: &str| self.ledger[name].as_u64().unwrap_or_default();
        write!(
            f,
            "refresh tokens spent once: {}; answers repeated inside the grace: {}; spent twice \
             outside the grace: {}; calls with a token past its expiry: {}; answers lost: {}",
            count("refresh_tokens_spent"),
            count("replays_in_grace"),
            count("spent_outside_grace"),
            count("calls_with_expired_token"),
            self.ledger["token_calls"]["answers_lost"],
        )
    }
}
