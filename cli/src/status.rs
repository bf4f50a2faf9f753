//! `evergreen status`: what is wrong and what to do, and the numbers of the last day.

mod sparkline;

use std::fmt::Write;
use std::io::{IsTerminal, stdout};

use serde_json::Value;
use service::config::Layered;

use crate::exit::Failure;
use crate::operate::{Admin, array};
use crate::output::{Output, Style, clean, member, paint};
use crate::process::read;
use sparkline::{Look, sparkline};

/// The width of the names of the lines.
const NAME: usize = 15;

/// `evergreen status`. It fails if there is a problem that loses calls or installations.
pub(crate) async fn show(source: &Layered, output: Output) -> Result<(), Failure> {
    let admin = Admin::new(read(source, Admin::read)?)?;
    let overview = admin.get("/v1/overview", "advice").await?;
    let look = match stdout().is_terminal() {
        true => Look::Blocks,
        false => Look::Ascii,
    };
    output.report(&overview, &kinds(&overview), || text(&overview, look))?;
    match critical(&overview) {
        0 => Ok(()),
        1 => Err(Failure::Refused(
            "1 problem loses calls or installations".to_owned(),
        )),
        several => Err(Failure::Refused(format!(
            "{several} problems lose calls or installations"
        ))),
    }
}

fn critical(overview: &Value) -> usize {
    let advice = array(overview, "advice");
    advice.filter(|it| it["severity"] == "critical").count()
}

/// The kinds of problems, one a line.
fn kinds(overview: &Value) -> String {
    let kinds = array(overview, "advice").map(|it| member(it, "kind"));
    kinds.collect::<Vec<_>>().join("\n")
}

fn text(overview: &Value, look: Look) -> String {
    let mut text = String::new();
    for advice in array(overview, "advice") {
        push_advice(&mut text, advice);
    }
    if text.is_empty() {
        text = format!("{}\n\n", paint(Style::Good, "All is well."));
    }
    for (name, line) in lines(overview, look) {
        let _ = writeln!(text, "{name:<NAME$}{line}");
    }
    text
}

fn push_advice(text: &mut String, advice: &Value) {
    let severity = member(advice, "severity");
    let style = match severity.as_str() {
        "critical" => Style::Bad,
        "warning" => Style::Warning,
        _ => Style::Plain,
    };
    let head = format!("{:<10}", severity.to_uppercase());
    let _ = writeln!(text, "{}{}", paint(style, &head), member(advice, "problem"));
    for (name, field) in [("Effect", "effect"), ("To do", "toDo"), ("More", "page")] {
        let _ = writeln!(text, "          {name:<8}{}", member(advice, field));
    }
    text.push('\n');
}

/// The lines below the advice: their names, and the rest.
fn lines(overview: &Value, look: Look) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("Installations", installations(&overview["installations"])),
        ("Refreshes", due(&overview["refreshes"])),
    ];
    for (name, line) in history(&overview["history"], look) {
        lines.push((name, line));
    }
    lines.push(("GHL", ghl(&overview["ghl"])));
    lines.push(("Processes", processes(overview)));
    if let Some(nodes) = lock_nodes(&overview["lockNodes"]) {
        lines.push(("Lock nodes", nodes));
    }
    lines.push(("Store", store(&overview["store"])));
    let soonest: Vec<&Value> = array(overview, "expiries").take(5).collect();
    for (place, expiry) in soonest.into_iter().enumerate() {
        let name = if place == 0 { "Next expiries" } else { "" };
        let left = expiry["expiresIn"].as_u64().unwrap_or_default();
        lines.push((
            name,
            format!("{:>8}  {}", time(left), member(expiry, "name")),
        ));
    }
    lines
}

const UNKNOWN: &str = "could not be learned in time";

fn installations(of: &Value) -> String {
    let Some(total) = of["total"].as_u64() else {
        return UNKNOWN.to_owned();
    };
    let states = of["byState"].as_object().into_iter().flatten();
    let states = states.filter(|(_, count)| count.as_u64() != Some(0));
    let states: Vec<String> = states
        .map(|(state, count)| format!("{count} {}", clean(state)))
        .collect();
    if total == 0 {
        return "none yet".to_owned();
    }
    let age = of["age"].as_u64().filter(|age| *age >= 60);
    let age = age.map(|age| format!(" (counted {} ago)", time(age)));
    let states = match states.is_empty() {
        true => "not counted by state yet".to_owned(),
        false => states.join(", "),
    };
    format!("{total}: {states}{}", age.unwrap_or_default())
}

fn due(of: &Value) -> String {
    let Some(due) = of["due"].as_u64() else {
        return UNKNOWN.to_owned();
    };
    let since = of["oldestDue"].as_u64().filter(|_| due > 0);
    let since = since.map(|since| format!(", the first for {}", time(since)));
    format!("{due} due{}", since.unwrap_or_default())
}

/// The charts of the last day.
fn history(of: &Value, look: Look) -> Vec<(&'static str, String)> {
    let series = |name: &str| -> Vec<u64> {
        let counts = of["series"][name].as_array().into_iter().flatten();
        counts.map(|it| it.as_u64().unwrap_or_default()).collect()
    };
    let total = |name: &str| of["totals"][name].as_u64().unwrap_or_default();
    if of.is_null() {
        return vec![("Last 24 hours", UNKNOWN.to_owned())];
    }
    let failed = ["refused", "unreachable", "credentials", "own"];
    let failures = failed.map(total).iter().sum::<u64>();
    let refreshes = format!(
        "{} done, {failures} failed",
        total("refreshed") + total("minted")
    );
    let calls = format!(
        "{} forwarded, {} refused, {} failed here; GHL: {} 4xx, {} 429, {} 5xx",
        total("forwarded"),
        total("call_refused"),
        total("call_failed"),
        total("ghl_4xx"),
        total("ghl_429"),
        total("ghl_5xx"),
    );
    let chart = |counts: &[u64]| sparkline(counts, look);
    let mut failures = vec![0; series("refreshed").len()];
    for name in failed {
        for (sum, count) in failures.iter_mut().zip(series(name)) {
            *sum += count;
        }
    }
    vec![
        (
            "  last 24 h",
            format!("{}  {refreshes}", chart(&series("refreshed"))),
        ),
        ("  failures", chart(&failures)),
        ("Calls", format!("{}  {calls}", chart(&series("forwarded")))),
    ]
}

fn ghl(of: &Value) -> String {
    let mut states = Vec::new();
    if of["outage"] == true {
        states.push("its token endpoint does not answer".to_owned());
    }
    if of["refusesAll"] == true {
        states.push("it refuses all refresh tokens".to_owned());
    }
    for app in array(of, "apps").filter(|app| app["pause"].is_string()) {
        states.push(format!(
            "{} pauses: {}",
            member(app, "name"),
            member(app, "pause")
        ));
    }
    match states.is_empty() {
        true => "no outage is known".to_owned(),
        false => states.join("; "),
    }
}

fn processes(overview: &Value) -> String {
    let Some(all) = overview["processes"].as_array() else {
        return UNKNOWN.to_owned();
    };
    let all = all.iter().map(|it| {
        let (kind, name) = (member(it, "kind"), member(it, "name"));
        format!("{kind} {name} {}", member(it, "version"))
    });
    all.collect::<Vec<_>>().join(", ")
}

/// `None` if there are none.
fn lock_nodes(of: &Value) -> Option<String> {
    let nodes = of["nodes"].as_array()?;
    let usable = nodes.iter().filter(|node| node["usable"] == true).count();
    let bad = nodes.iter().filter(|node| node["usable"] != true);
    let bad: Vec<String> = bad
        .map(|node| format!("{} {}", member(node, "address"), member(node, "state")))
        .collect();
    let bad = match bad.is_empty() {
        true => String::new(),
        false => format!(": {}", bad.join(", ")),
    };
    Some(format!("{usable} of {} usable{bad}", nodes.len()))
}

fn store(of: &Value) -> String {
    let kind = member(of, "kind");
    match of["findings"].as_array().map(Vec::len) {
        None => format!("{kind}, not checked yet"),
        Some(0) => format!("{kind}, nothing found"),
        Some(found) => format!("{kind}, {found} found: see above"),
    }
}

/// Seconds in the largest unit that fits.
fn time(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn overview() -> Value {
        let mut refreshed = vec![0; 288];
        refreshed[287] = 4;
        json!({
            "advice": [],
            "installations": {
                "total": 5,
                "byState": { "valid": 4, "invalid": 1, "paused": 0 },
                "age": 3,
            },
            "refreshes": { "due": 2, "oldestDue": 130 },
            "history": {
                "series": { "refreshed": refreshed },
                "totals": { "refreshed": 4, "own": 1, "forwarded": 7 },
            },
            "ghl": { "outage": false, "refusesAll": false, "apps": [{ "name": "a", "pause": null }] },
            "processes": [{ "kind": "broker", "name": "b", "version": "1" }],
            "lockNodes": null,
            "store": { "kind": "file", "findings": [] },
            "expiries": [{ "name": "Acme\u{1b}[2J", "expiresIn": 7_300 }],
        })
    }

    #[test]
    fn calm_overview_begins_with_all_is_well() {
        let text = text(&overview(), Look::Ascii);
        assert!(text.contains("All is well."), "{text}");
        for line in [
            "Installations  5: ",
            "4 valid",
            "1 invalid",
            "Refreshes      2 due, the first for 2 min\n",
            "4 done, 1 failed\n",
            "GHL            no outage is known\n",
            "Processes      broker b 1\n",
            "Store          file, nothing found\n",
            "Next expiries       2 h  Acme\u{fffd}[2J\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(!text.contains("Lock nodes"), "{text}");
    }

    #[test]
    fn advice_comes_first_and_only_critical_advice_fails() {
        let mut overview = overview();
        let advice = |severity| {
            json!({
                "severity": severity, "kind": "outage", "problem": "GHL is away", "effect": "None yet.",
                "toDo": "Wait.", "page": "docs/operations.md",
            })
        };
        overview["advice"] = json!([advice("warning")]);
        assert_eq!(
            (critical(&overview), kinds(&overview).as_str()),
            (0, "outage")
        );
        overview["advice"] = json!([advice("critical"), advice("note")]);
        assert_eq!(critical(&overview), 1);
        assert_eq!(kinds(&overview), "outage\noutage");
        let text = text(&overview, Look::Ascii);
        let (first, rest) = text.split_once("Installations").unwrap();
        assert!(
            first.contains("GHL is away") && first.contains("To do   Wait."),
            "{first}"
        );
        assert!(!rest.contains("All is well"), "{rest}");
    }

    #[test]
    fn facts_that_are_missing_are_named() {
        let lines = lines(&json!({ "advice": [] }), Look::Blocks);
        let unknown = lines.iter().filter(|(_, line)| line == UNKNOWN).count();
        assert_eq!(unknown, 4, "{lines:?}");
    }

    #[test]
    fn times_are_in_one_unit() {
        let shown = [0, 119, 120, 7_199, 7_200, 172_800].map(time);
        assert_eq!(shown, ["0 s", "119 s", "2 min", "119 min", "2 h", "2 days"]);
    }
}
