//! `evergreen check-store`: whether evergreen can use a store, before it does.

use secrecy::{ExposeSecret, SecretString};
use service::config::{Layered, Settings};
use store::connection::{Address, RedisTls};
use store::names::Prefix;
use store_writer::check::Severity;
use store_writer::trial::{self, Found, Report, Role};

use crate::args::{CheckStore, StoreRole};
use crate::exit::{Failure, chain};
use crate::process::read;
use crate::{redis_prefix, redis_tls, run};

struct Config {
    url: SecretString,
    tls: RedisTls,
    prefix: Prefix,
    replicas: usize,
}

/// `evergreen check-store`.
pub(crate) async fn act(source: &Layered, what: &CheckStore) -> Result<(), Failure> {
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
    let report = report.map_err(|error| Failure::Refused(chain(&error)))?;
    println!("{}", lines(&report).join("\n"));
    match verdict(&report) {
        Verdict::Good => println!("\nevergreen can use it."),
        Verdict::Losses => println!("\nevergreen can use it, with the losses above."),
        Verdict::Bad => {
            return Err(Failure::Refused(
                "evergreen cannot use it as it is: see MISSING and UNSAFE above (docs/managed-redis.md explains them)".to_owned(),
            ));
        }
    }
    Ok(())
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
