//! `evergreen check-store`: whether evergreen can use a store, before it does.

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use service::config::{Layered, Settings};
use store::connection::{Address, RedisTls};
use store::names::Prefix;
use store_writer::check::Severity;
use store_writer::trial::{self, Found, Report, Role};

use crate::args::{CheckStore, StoreRole};
use crate::exit::{Failure, chain};
use crate::move_store::without_login;
use crate::output::{Output, Style, paint};
use crate::process::read;
use crate::{redis_prefix, redis_tls, run};

struct Config {
    url: SecretString,
    tls: RedisTls,
    prefix: Prefix,
    replicas: usize,
}

/// `evergreen check-store`.
pub(crate) async fn act(
    source: &Layered,
    output: Output,
    what: &CheckStore,
) -> Result<(), Failure> {
    let config = read(source, Config::read)?;
    let address = Address::parse_with_tls(&config.url, &config.tls);
    let address = address.map_err(Failure::unavailable)?;
    let address = address.with_prefix(config.prefix);
    let role = match what.role {
        StoreRole::Broker => Role::Broker,
        StoreRole::Gateway => Role::Gateway,
        StoreRole::LockNode => Role::LockNode,
    };
    let report = trial::run(address, role, config.replicas).await;
    let report = report.map_err(|error| {
        let asked = without_login(config.url.expose_secret());
        Failure::Refused(format!("{asked}: {}", chain(&error)))
    })?;
    let verdict = verdict(&report);
    output.report(&to_json(&report, &verdict), verdict.as_str(), || {
        let said = match verdict {
            Verdict::Good => "\n\nevergreen can use it.",
            Verdict::Losses => "\n\nevergreen can use it, with the losses above.",
            Verdict::Bad => "",
        };
        let lines: Vec<String> = lines(&report).iter().map(|line| coloured(line)).collect();
        lines.join("\n") + said
    })?;
    match verdict {
        Verdict::Good | Verdict::Losses => Ok(()),
        Verdict::Bad => Err(Failure::Refused(
            "evergreen cannot use it as it is: see MISSING and UNSAFE above (docs/managed-redis.md explains them)"
                .to_owned(),
        )),
    }
}

/// The line, whose first word is its result.
fn coloured(line: &str) -> String {
    let (result, rest) = line.split_once(' ').unwrap_or((line, ""));
    format!("{} {rest}", paint(Style::of_state(result), result))
}

fn to_json(report: &Report, verdict: &Verdict) -> Value {
    let tried = report.tried.iter().map(|tried| {
        let (result, reason) = match &tried.result {
            Found::There(_) => ("ok", None),
            Found::Lost { reason, .. } => ("lost", Some(reason)),
            Found::Missing { reason, .. } => ("missing", Some(reason)),
        };
        json!({ "what": tried.what, "result": result, "reason": reason, "text": tried.to_string() })
    });
    let findings = report.findings.iter().map(|finding| {
        let severity = match finding.severity {
            Severity::Unsafe => "unsafe",
            Severity::Degraded => "lost",
        };
        json!({ "severity": severity, "text": finding.to_string() })
    });
    json!({
        "verdict": verdict.as_str(),
        "servers": report.servers,
        "tried": tried.collect::<Vec<_>>(),
        "findings": findings.collect::<Vec<_>>(),
    })
}

impl Config {
    fn read(settings: &mut Settings<'_>) -> Self {
        let url = settings.secret("EVERGREEN_REDIS_URL").unwrap_or_else(|| {
            settings.mistake(
                "EVERGREEN_REDIS_URL",
                "is missing: name the store here, in a file with EVERGREEN_REDIS_URL_FILE, or as an argument",
            );
            SecretString::default()
        });
        if !url.expose_secret().is_empty()
            && let Err(error) = Address::parse(&url)
        {
            settings.mistake("EVERGREEN_REDIS_URL", format!("is {error}"));
        }
        Self {
            tls: redis_tls::read_for(settings, [&url]),
            prefix: redis_prefix::read(settings),
            replicas: run::replicas(settings, &url),
            url,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    Losses,
    Bad,
}

impl Verdict {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Losses => "losses",
            Self::Bad => "bad",
        }
    }
}

fn verdict(report: &Report) -> Verdict {
    let results = report.tried.iter().map(|tried| match tried.result {
        Found::There(_) => Verdict::Good,
        Found::Lost { .. } => Verdict::Losses,
        Found::Missing { .. } => Verdict::Bad,
    });
    let findings = report
        .findings
        .iter()
        .map(|finding| match finding.severity {
            Severity::Unsafe => Verdict::Bad,
            Severity::Degraded => Verdict::Losses,
        });
    let all: Vec<Verdict> = results.chain(findings).collect();
    if all.contains(&Verdict::Bad) {
        Verdict::Bad
    } else if all.contains(&Verdict::Losses) {
        Verdict::Losses
    } else {
        Verdict::Good
    }
}

fn lines(report: &Report) -> Vec<String> {
    let servers = report
        .servers
        .iter()
        .map(|server| format!("server   {server}"));
    let tried = report.tried.iter().map(ToString::to_string);
    let findings = report
        .findings
        .iter()
        .map(|finding| match finding.severity {
            Severity::Unsafe => format!("UNSAFE   {finding}"),
            Severity::Degraded => format!("lost     {finding}"),
        });
    servers.chain(tried).chain(findings).collect()
}

#[cfg(test)]
mod tests {
    use store_writer::check::{Finding, Reason};
    use store_writer::trial::Tried;

    use super::*;

    fn report(result: Found, severity: Option<Severity>) -> Report {
        let finding = |severity| Finding {
            reason: Reason::Eviction,
            severity,
            text: "it evicts".to_owned(),
        };
        Report {
            servers: vec!["a:1 is Redis 7.0.15".to_owned()],
            tried: vec![Tried {
                what: "lists",
                result,
            }],
            findings: severity.into_iter().map(finding).collect(),
        }
    }

    #[test]
    fn worst_line_decides() {
        let (reason, lost) = ("NOPERM".to_owned(), "all of it");
        let there = || Found::There(String::new());
        let absent = Found::Lost {
            reason: reason.clone(),
            lost,
        };
        let missing = Found::Missing { reason, lost };
        for (result, severity, expected) in [
            (there(), None, Verdict::Good),
            (there(), Some(Severity::Degraded), Verdict::Losses),
            (there(), Some(Severity::Unsafe), Verdict::Bad),
            (absent, None, Verdict::Losses),
            (missing, Some(Severity::Degraded), Verdict::Bad),
        ] {
            assert_eq!(verdict(&report(result, severity)), expected);
        }
    }

    #[test]
    fn each_line_begins_with_its_result() {
        let lines = lines(&report(
            Found::There("2".to_owned()),
            Some(Severity::Unsafe),
        ));
        let expected = [
            "server   a:1 is Redis 7.0.15",
            "ok       lists: 2",
            "UNSAFE   it evicts",
        ];
        assert_eq!(lines, expected);
    }
}
