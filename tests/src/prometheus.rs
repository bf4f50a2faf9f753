//! Prometheus with the rules of `deploy/`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};

use crate::alertmanager::Alertmanager;
use crate::client;
use crate::port;
use crate::program::{Program, Start, wait_for_port};
use crate::scratch::Scratch;

const PATIENCE: Duration = Duration::from_secs(60);

/// A running Prometheus that scrapes and evaluates each second.
#[derive(Debug)]
pub struct Prometheus {
    pub url: String,
    client: Client,
    program: Program,
    _scratch: Scratch,
}

impl Prometheus {
    /// Scrapes these internal listeners, such as `("broker", "127.0.0.1:9081")`, under these names of jobs.
    ///
    /// # Panics
    /// If it cannot be started.
    pub async fn start(jobs: &[(&str, &str)]) -> Self {
        Self::start_with(jobs, None).await
    }

    /// As [`Prometheus::start`], and sends its alerts to an Alertmanager.
    ///
    /// # Panics
    /// If it cannot be started.
    pub async fn start_alerting(jobs: &[(&str, &str)], alertmanager: &Alertmanager) -> Self {
        Self::start_with(jobs, Some(&alertmanager.address)).await
    }

    async fn start_with(jobs: &[(&str, &str)], alertmanager: Option<&str>) -> Self {
        let scratch = Scratch::new();
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus/rules.yml");
        let rules = rules.canonicalize().expect("deploy/prometheus/rules.yml");
        let mut targets: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (job, target) in jobs {
            targets.entry(job).or_default().push(target);
        }
        let scrapes: Vec<Value> = targets
            .iter()
            .map(|(job, targets)| json!({ "job_name": job, "static_configs": [{ "targets": targets }] }))
            .collect();
        let alertmanagers: Vec<Value> = alertmanager
            .iter()
            .map(|address| json!({ "static_configs": [{ "targets": [address] }] }))
            .collect();
        // JSON is YAML.
        let config = json!({
            "global": { "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s" },
            "rule_files": [rules.display().to_string()],
            "alerting": { "alertmanagers": alertmanagers },
            "scrape_configs": scrapes,
        });
        let file = scratch.join("prometheus.yml");
        std::fs::write(&file, config.to_string()).expect("a file of our own");
        let port = port::free();
        let program = Start::new("prometheus")
            .args(&[
                format!("--config.file={file}"),
                format!("--storage.tsdb.path={}", scratch.join("tsdb")),
                format!("--web.listen-address=127.0.0.1:{port}"),
            ])
            .spawn();
        wait_for_port(port).await;
        let ready = ["Server is ready to receive web requests"];
        program.wait_for_line(&ready, PATIENCE).await;
        Self {
            url: format!("http://127.0.0.1:{port}"),
            client: client::anonymous(),
            program,
            _scratch: scratch,
        }
    }

    /// The labels and the value of each sample of an instant query.
    ///
    /// # Errors
    /// The fault that Prometheus finds in the expression.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn query(&self, expression: &str) -> Result<Vec<(Value, f64)>, String> {
        let url = format!("{}/api/v1/query", self.url);
        let request = self.client.get(url).query(&[("query", expression)]);
        let (_, mut answer) = client::send(request).await;
        if answer["status"] != "success" {
            return Err(format!("{answer}: {:#?}", self.program.log().last()));
        }
        let Value::Array(samples) = answer["data"]["result"].take() else {
            return Err(format!("{expression} is no instant vector"));
        };
        samples.into_iter().map(labels_and_value).collect()
    }

    /// All rules, with `name`, `query`, `health` and `lastError`.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn rules(&self) -> Vec<Value> {
        let (_, mut answer) =
            client::get(&self.client, &format!("{}/api/v1/rules", self.url)).await;
        let Value::Array(groups) = answer["data"]["groups"].take() else {
            panic!("no groups of rules but {answer}");
        };
        let rules = groups.into_iter().filter_map(|mut group| {
            let Value::Array(rules) = group["rules"].take() else {
                return None;
            };
            Some(rules)
        });
        rules.flatten().collect()
    }
}

fn labels_and_value(mut sample: Value) -> Result<(Value, f64), String> {
    let value = sample["value"][1].as_str();
    let value = value.and_then(|text| text.parse::<f64>().ok());
    let value = value.ok_or_else(|| sample.to_string())?;
    Ok((sample["metric"].take(), value))
}
