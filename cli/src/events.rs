//! `evergreen events …`: events, endpoints and dead letters of a running process.

use serde_json::{Value, json};
use service::config::Layered;

use crate::args::{Events, Resend};
use crate::exit::Failure;
use crate::operate::{Admin, array, text};
use crate::output::{Column, List, Output, in_words, member, time};
use crate::process::read;

const ENDPOINTS: List = List {
    columns: &[
        Column::text("ENDPOINT", |it| member(it, "id")),
        Column::text("KIND", |it| member(it, "kind")),
        Column::text("HOST", |it| member(it, "host")),
        Column::number("WAITING", |it| member(it, "waiting")),
        Column::number("FAILING", |it| member(it, "failing")),
        Column::text("NEXT PROBE", next_probe),
        Column::text("TYPES", types),
    ],
    id: |it| member(it, "id"),
    empty: "There are no endpoints yet. EVERGREEN_EVENTS_URL and EVERGREEN_EVENTS_SECRET of `up` or a broker name the \
            first one",
};

const EVENTS: List = List {
    columns: &[
        Column::time("TIME", |it| time(it, "time")),
        Column::text("EVENT", |it| member(it, "id")),
        Column::text("TYPE", |it| member(it, "type")),
        Column::text("APP", |it| member(it, "app")).spare(2),
        Column::text("INSTALLATION", |it| member(&it["installation"], "id")),
        Column::text("LOCATION OR COMPANY", |it| owner(&it["installation"])).spare(1),
        Column::text("REASON", reason),
    ],
    id: |it| member(it, "id"),
    empty: "There are no events yet. The first comes when a customer connects",
};

const DEAD_LETTERS: List = List {
    columns: &[
        Column::time("GIVEN UP", |it| time(it, "givenUpAt")),
        Column::text("MESSAGE", |it| member(it, "id")),
        Column::text("ENDPOINT", |it| member(it, "endpoint")),
        Column::text("TYPE", |it| member(it, "type")),
        Column::number("ATTEMPTS", |it| member(it, "attempts")),
        Column::text("ERROR", |it| member(it, "error")),
    ],
    id: |it| member(it, "id"),
    empty: "There are no dead letters: no endpoint of this broker has refused a message for 3 days",
};

pub(crate) async fn act(source: &Layered, output: Output, what: Events) -> Result<(), Failure> {
    let admin = Admin::new(read(source, Admin::read)?)?;
    match what {
        Events::Endpoints => {
            let answer = admin.get("/v1/event-endpoints", "endpoints").await?;
            list(output, &ENDPOINTS, array(&answer, "endpoints"))
        }
        Events::List(wanted) if wanted.dead => {
            let path = format!("/v1/dead-letters?limit={}", wanted.limit);
            let answer = admin.get(&path, "deadLetters").await?;
            list(output, &DEAD_LETTERS, array(&answer, "deadLetters"))
        }
        Events::List(wanted) => {
            let path = format!("/v1/events?newest=true&limit={}", wanted.limit);
            let answer = admin.get(&path, "events").await?;
            list(output, &EVENTS, array(&answer, "events"))
        }
        Events::Resend(wanted) => resend(&admin, output, &wanted).await,
        Events::Test { endpoint } => test(&admin, output, &endpoint).await,
    }
}

fn list<'v>(
    output: Output,
    what: &'static List,
    entries: impl Iterator<Item = &'v Value>,
) -> Result<(), Failure> {
    let mut rows = output.list(what);
    rows.add(entries)?;
    rows.end()
}

fn next_probe(endpoint: &Value) -> String {
    match endpoint["nextProbeIn"].as_u64() {
        Some(seconds) => format!("{seconds} s"),
        None => "-".to_owned(),
    }
}

fn types(endpoint: &Value) -> String {
    let types: Vec<&str> = array(endpoint, "types").filter_map(Value::as_str).collect();
    match types.is_empty() {
        true => "all".to_owned(),
        false => types.join(","),
    }
}

fn owner(installation: &Value) -> String {
    match &installation["locationId"] {
        Value::Null => member(installation, "companyId"),
        location => in_words(location),
    }
}

fn reason(event: &Value) -> String {
    match &event["reason"] {
        Value::Null => member(&event["installation"], "reason"),
        reason => in_words(reason),
    }
}

async fn resend(admin: &Admin, output: Output, wanted: &Resend) -> Result<(), Failure> {
    let body = json!({
        "endpoint": wanted.endpoint,
        "events": wanted.events,
        "dead_letters": wanted.dead,
    });
    let answer = admin
        .post("/v1/events/resend", Some(&body), "queued")
        .await?;
    let texts = |name| array(&answer, name).filter_map(Value::as_str);
    let queued: Vec<&str> = texts("queued").collect();
    let queued = queued.join("\n");
    if output.is_json() || !queued.is_empty() {
        output.report(&answer, &queued, || queued.clone())?;
    }
    if wanted.dead {
        output.note(dead_letters_left(&wanted.endpoint, &answer));
    }
    let missing: Vec<&str> = texts("notFound").collect();
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

async fn test(admin: &Admin, output: Output, endpoint: &str) -> Result<(), Failure> {
    let path = format!("/v1/event-endpoints/{endpoint}/test");
    let answer = admin.post(&path, None, "delivered").await?;
    let id = text(&answer, "id");
    let is_delivered = answer["delivered"] == true;
    if is_delivered || output.is_json() {
        output.report(&answer, id, || {
            format!("{endpoint} took the test message {id}")
        })?;
    }
    if is_delivered {
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "{endpoint} did not take the test message {id}: {}",
        text(&answer, "error")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_of_an_event_shows_whose_it_is_and_why() {
        let event = json!({
            "installation": { "locationId": "loc1", "companyId": "comp1", "reason": "uninstalled at GHL" },
        });
        assert_eq!(owner(&event["installation"]), "loc1");
        assert_eq!(reason(&event), "uninstalled at GHL");
        let about_app = json!({ "reason": "no" });
        assert_eq!(owner(&about_app["installation"]), "-");
        assert_eq!(reason(&about_app), "no");
    }

    #[test]
    fn resend_says_how_many_dead_letters_are_left() {
        let said = |left: u64| dead_letters_left("crm", &json!({ "deadLettersLeft": left }));
        assert_eq!(said(0), "crm has no dead letters any more");
        assert!(said(7).contains("7 more"), "{}", said(7));
    }

    #[test]
    fn row_of_an_endpoint_shows_whether_it_is_down() {
        let mut endpoint = json!({ "types": [], "nextProbeIn": 40 });
        assert_eq!(
            (next_probe(&endpoint), types(&endpoint)),
            ("40 s".into(), "all".into())
        );
        endpoint["nextProbeIn"] = Value::Null;
        endpoint["types"] = json!(["app.*", "installation.connected"]);
        assert_eq!(next_probe(&endpoint), "-");
        assert_eq!(types(&endpoint), "app.*,installation.connected");
    }
}
