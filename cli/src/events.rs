//! `evergreen events …`: events, endpoints and dead letters of a running process.

use serde_json::{Value, json};
use service::config::Layered;

use crate::args::{Events, ListEvents, Resend};
use crate::exit::Failure;
use crate::operate::Admin;
use crate::process::read;

pub(crate) async fn act(source: &Layered, what: Events) -> Result<(), Failure> {
    let admin = Admin::new(read(source, Admin::read)?)?;
    match what {
        Events::Endpoints => endpoints(&admin).await,
        Events::List(wanted) if wanted.dead => dead_letters(&admin, &wanted).await,
        Events::List(wanted) => list(&admin, &wanted).await,
        Events::Resend(wanted) => resend(&admin, &wanted).await,
        Events::Test { endpoint } => test(&admin, &endpoint).await,
    }
}

async fn endpoints(admin: &Admin) -> Result<(), Failure> {
    let answer = admin.get("/v1/event-endpoints", "endpoints").await?;
    println!(
        "{:<32} {:<8} {:<32} {:>7} {:>7}  {:<10} TYPES",
        "ENDPOINT", "KIND", "HOST", "WAITING", "FAILING", "NEXT PROBE"
    );
    for endpoint in entries(&answer["endpoints"]) {
        println!("{}", endpoint_row(endpoint));
    }
    Ok(())
}

fn endpoint_row(endpoint: &Value) -> String {
    let probe = match endpoint["nextProbeIn"].as_u64() {
        Some(seconds) => format!("{seconds} s"),
        None => "-".to_owned(),
    };
    let types: Vec<&str> = entries(&endpoint["types"])
        .filter_map(Value::as_str)
        .collect();
    let types = match types.is_empty() {
        true => "all".to_owned(),
        false => types.join(","),
    };
    format!(
        "{:<32} {:<8} {:<32} {:>7} {:>7}  {probe:<10} {types}",
        text(endpoint, "id"),
        text(endpoint, "kind"),
        text(endpoint, "host"),
        endpoint["waiting"].to_string(),
        endpoint["failing"].to_string(),
    )
}

async fn list(admin: &Admin, wanted: &ListEvents) -> Result<(), Failure> {
    let path = format!("/v1/events?newest=true&limit={}", wanted.limit);
    let answer = admin.get(&path, "events").await?;
    println!(
        "{:<24} {:<28} {:<28} {:<10} {:<33} {:<24} REASON",
        "TIME", "EVENT", "TYPE", "APP", "INSTALLATION", "LOCATION OR COMPANY"
    );
    for event in entries(&answer["events"]) {
        println!("{}", event_row(event));
    }
    Ok(())
}

fn event_row(event: &Value) -> String {
    let installation = &event["installation"];
    let owner = installation["locationId"]
        .as_str()
        .unwrap_or(text(installation, "companyId"));
    let reason = event["reason"]
        .as_str()
        .or(installation["reason"].as_str())
        .unwrap_or_default();
    let row = format!(
        "{:<24} {:<28} {:<28} {:<10} {:<33} {owner:<24} {reason}",
        text(event, "time"),
        text(event, "id"),
        text(event, "type"),
        text(event, "app"),
        text(installation, "id"),
    );
    row.trim_end().to_owned()
}

async fn dead_letters(admin: &Admin, wanted: &ListEvents) -> Result<(), Failure> {
    let path = format!("/v1/dead-letters?limit={}", wanted.limit);
    let answer = admin.get(&path, "deadLetters").await?;
    println!(
        "{:<24} {:<28} {:<32} {:<28} {:>8}  ERROR",
        "GIVEN UP", "MESSAGE", "ENDPOINT", "TYPE", "ATTEMPTS"
    );
    for letter in entries(&answer["deadLetters"]) {
        println!(
            "{:<24} {:<28} {:<32} {:<28} {:>8}  {}",
            text(letter, "givenUpAt"),
            text(letter, "id"),
            text(letter, "endpoint"),
            text(letter, "type"),
            letter["attempts"].to_string(),
            text(letter, "error"),
        );
    }
    Ok(())
}

async fn resend(admin: &Admin, wanted: &Resend) -> Result<(), Failure> {
    let body = json!({
        "endpoint": wanted.endpoint,
        "events": wanted.events,
        "dead_letters": wanted.dead,
    });
    let answer = admin
        .post("/v1/events/resend", Some(&body), "queued")
        .await?;
    for id in entries(&answer["queued"]) {
        println!("{}", id.as_str().unwrap_or("-"));
    }
    if wanted.dead {
        eprintln!("{}", dead_letters_left(&wanted.endpoint, &answer));
    }
    let missing: Vec<&str> = entries(&answer["notFound"])
        .filter_map(Value::as_str)
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Failure::Refused(format!(
            "Not among the newest 20,000 events: {}. `GET /v1/events?after=` has all events of 30 days",
            missing.join(", ")
        ))),
    }
}

fn dead_letters_left(endpoint: &str, answer: &Value) -> String {
    match answer["deadLettersLeft"].as_u64() {
        None | Some(0) => format!("{endpoint} has no dead letters any more"),
        Some(left) => {
            format!("{endpoint} has {left} more dead letters: run this again to send them")
        }
    }
}

async fn test(admin: &Admin, endpoint: &str) -> Result<(), Failure> {
    let path = format!("/v1/event-endpoints/{endpoint}/test");
    let answer = admin.post(&path, None, "delivered").await?;
    let id = text(&answer, "id");
    if answer["delivered"] == true {
        println!("{endpoint} took the test message {id}");
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "{endpoint} did not take the test message {id}: {}",
        text(&answer, "error")
    )))
}

fn entries(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text<'a>(of: &'a Value, field: &str) -> &'a str {
    of[field].as_str().unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(row: &str) -> String {
        row.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn row_of_an_event_shows_whose_it_is_and_why() {
        let event = json!({
            "id": "evt_1", "type": "installation.uninstalled", "time": "2026-11-29T12:00:00.000Z",
            "app": "default",
            "installation": {
                "id": "install_1", "locationId": "loc1", "companyId": "comp1",
                "reason": "uninstalled at GHL",
            },
        });
        let expected = "2026-11-29T12:00:00.000Z evt_1 installation.uninstalled default install_1 loc1 \
                        uninstalled at GHL";
        assert_eq!(words(&event_row(&event)), expected);
        let about_app =
            json!({ "id": "evt_2", "type": "app.credentials_rejected", "reason": "no" });
        let expected = "- evt_2 app.credentials_rejected - - - no";
        assert_eq!(words(&event_row(&about_app)), expected);
    }

    #[test]
    fn resend_says_how_many_dead_letters_are_left() {
        let said = |left: u64| dead_letters_left("crm", &json!({ "deadLettersLeft": left }));
        assert_eq!(said(0), "crm has no dead letters any more");
        assert!(said(7).contains("7 more"), "{}", said(7));
    }

    #[test]
    fn row_of_an_endpoint_shows_whether_it_is_down() {
        let mut endpoint = json!({
            "id": "crm", "kind": "events", "host": "crm.example", "types": [], "waiting": 3,
            "failing": 1, "nextProbeIn": 40,
        });
        assert_eq!(
            words(&endpoint_row(&endpoint)),
            "crm events crm.example 3 1 40 s all"
        );
        endpoint["nextProbeIn"] = Value::Null;
        endpoint["types"] = json!(["app.*", "installation.connected"]);
        assert_eq!(
            words(&endpoint_row(&endpoint)),
            "crm events crm.example 3 1 - app.*,installation.connected"
        );
    }
}
