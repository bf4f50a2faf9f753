//! `evergreen doctor`: why an installation does not work, and what to do.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use service::config::Layered;
use url::form_urlencoded::Serializer;

use crate::args::Doctor;
use crate::exit::Failure;
use crate::operate::{Admin, array, text};
use crate::output::{Output, Style, clean, member, paint};
use crate::process::read;

/// The most installations that are explained, or named as near ones.
const MOST: usize = 20;
/// The most pages of a search for near ones. Each takes at most a fifth of a second.
const PAGES: usize = 20;
/// The entries of the history that a terminal shows. JSON has all.
const SHOWN: usize = 10;

/// Explains each installation with this name.
///
/// # Errors
/// [`Failure::Refused`] if something must be done, or there is no such installation.
pub(crate) async fn act(source: &Layered, output: Output, wanted: &Doctor) -> Result<(), Failure> {
    let admin = Admin::new(read(source, Admin::read)?)?;
    let page = admin.get(&search(wanted, None), "installations").await?;
    if page["exact"] != true {
        return Err(not_found(&admin, output, wanted, page).await?);
    }
    let mut explained = Vec::new();
    for one in array(&page, "installations").take(MOST) {
        let id = utf8_percent_encode(text(one, "installationId"), NON_ALPHANUMERIC);
        let path = format!("/v1/installations/{id}/diagnosis");
        explained.push(admin.get(&path, "verdict").await?);
    }
    if page["next"].is_string() {
        output.note(format!("The first {MOST} are explained."));
    }
    let verdicts: Vec<String> = explained.iter().map(verdict).collect();
    output.report(&json!(explained), &verdicts.join("\n"), || {
        let each: Vec<String> = explained.iter().map(shown).collect();
        each.join("\n\n")
    })?;
    let needy = explained.iter().filter(|it| it["verdict"] == "action");
    match (needy.count(), explained.len()) {
        (0, _) => Ok(()),
        (_, 1) => Err(Failure::Refused("Something must be done.".to_owned())),
        (some, all) => Err(Failure::Refused(format!(
            "Something must be done about {some} of {all} installations."
        ))),
    }
}

/// The path of a search for the name.
fn search(wanted: &Doctor, after: Option<&str>) -> String {
    let mut query = Serializer::new(String::new());
    query.append_pair("q", &wanted.installation);
    query.append_pair("limit", &MOST.to_string());
    if let Some(app) = &wanted.of.app {
        query.append_pair("app", app.as_str());
    }
    query.extend_pairs(after.map(|after| ("after", after)));
    format!("/v1/installations?{}", query.finish())
}

/// The failure for a name that no installation has, with those that are near it.
async fn not_found(
    admin: &Admin,
    output: Output,
    wanted: &Doctor,
    mut page: Value,
) -> Result<Failure, Failure> {
    let mut near: Vec<Value> = Vec::new();
    for _ in 0..PAGES {
        near.extend(array(&page, "installations").cloned());
        let Some(next) = page["next"].as_str().filter(|_| near.len() < MOST) else {
            break;
        };
        page = admin
            .get(&search(wanted, Some(next)), "installations")
            .await?;
    }
    near.truncate(MOST);
    let is_whole = !page["next"].is_string();
    if output.is_json() {
        output.line("[]")?;
    }
    Ok(Failure::Refused(absent(wanted, &near, is_whole)))
}

/// `is_whole`: whether all installations were looked at.
fn absent(wanted: &Doctor, near: &[Value], is_whole: bool) -> String {
    let name = clean(&wanted.installation);
    let of_app = wanted
        .of
        .app
        .as_ref()
        .map_or_else(String::new, |app| format!(" of the app {app}"));
    let mut lines = vec![format!(
        "No installation{of_app} has exactly the id, location, company, external id or tag {name}."
    )];
    if !near.is_empty() {
        lines.push("These are near it (ids differ in capital and small letters):".to_owned());
        lines.extend(near.iter().map(|one| format!("  {}", owner(one))));
    }
    if !is_whole {
        lines.push("Not all installations were looked at for near ones.".to_owned());
    }
    lines.push(
        "To do:\n  \
         - Copy the id from GHL, or from `evergreen installations list`.\n  \
         - Is it a location of an agency? evergreen finds it with its first call, if the agency has connected: \
         `evergreen installations list --company COMPANY` shows the agency.\n  \
         - Is it a new customer? `evergreen installations connect-link` makes a link with which it connects.\n  \
         - Was it connected to another broker or store? EVERGREEN_ADMIN_URL says which one is asked."
            .to_owned(),
    );
    lines.join("\n")
}

/// An installation in one line.
fn owner(one: &Value) -> String {
    let mut line = member(one, "installationId");
    for (label, name) in [
        ("app", "app"),
        ("location", "locationId"),
        ("company", "companyId"),
        ("external id", "externalId"),
    ] {
        if one[name].is_string() {
            line.push_str(&format!("  {label} {}", member(one, name)));
        }
    }
    let company = &one["details"]["companyName"];
    if let Some(company) = company.as_str() {
        line.push_str(&format!("  ({})", clean(company)));
    }
    line
}

fn verdict(explained: &Value) -> String {
    let id = member(&explained["installation"], "installationId");
    format!("{id} {}", member(explained, "verdict"))
}

/// For a terminal.
fn shown(explained: &Value) -> String {
    let style = match text(explained, "verdict") {
        "well" => Style::Good,
        "action" => Style::Bad,
        _ => Style::Warning,
    };
    let mut lines = vec![
        paint(Style::Title, &owner(&explained["installation"])),
        paint(style, &member(explained, "summary")),
    ];
    lines.extend(array(explained, "why").map(|why| clean(why.as_str().unwrap_or_default())));
    lines.push(member(explained, "calls"));
    let steps: Vec<&Value> = array(explained, "toDo").collect();
    lines.push(match steps.is_empty() {
        true => "There is nothing to do.".to_owned(),
        false => paint(Style::Title, "To do:"),
    });
    for (step, number) in steps.iter().zip(1..) {
        lines.push(format!("  {number}. {}", member(step, "text")));
        if step["command"].is_string() {
            lines.push(format!("     {}", member(step, "command")));
        }
    }
    let entries: Vec<&Value> = array(explained, "history").collect();
    if !entries.is_empty() {
        lines.push(paint(Style::Title, "Lately:"));
    }
    for entry in entries.iter().take(SHOWN) {
        lines.push(format!(
            "  {}  {}",
            member(entry, "at"),
            member(entry, "text")
        ));
    }
    if entries.len() > SHOWN {
        let more = entries.len() - SHOWN;
        lines.push(format!("  and {more} more: `--output json` has them"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doctor(installation: &str, app: Option<&str>) -> Doctor {
        Doctor {
            installation: installation.to_owned(),
            of: crate::args::OfApp {
                app: app.map(|app| app.parse().unwrap()),
            },
        }
    }

    #[test]
    fn explanation_has_all_of_its_parts() {
        let explained = json!({
            "installation": { "installationId": "install_1", "app": "default", "locationId": "L\u{1b}[2J",
                "details": { "companyName": "Northwind" } },
            "verdict": "action", "summary": "Needs consent.", "why": ["GHL said no."], "calls": "Calls fail.",
            "toDo": [{ "text": "Send a link.", "command": "evergreen x" }, { "text": "Wait.", "command": null }],
            "history": (0..12).map(|at| json!({ "at": format!("t{at}"), "text": "Connected" })).collect::<Vec<_>>(),
        });
        let shown = shown(&explained);
        for part in [
            "install_1",
            "(Northwind)",
            "Needs consent.",
            "GHL said no.",
            "Calls fail.",
            "1. Send a link.",
            "     evergreen x",
            "2. Wait.",
            "t9  Connected",
            "and 2 more",
        ] {
            assert!(shown.contains(part), "no {part:?} in {shown}");
        }
        assert!(
            !shown.contains("L\u{1b}") && !shown.contains("t10"),
            "{shown}"
        );
        assert_eq!(verdict(&explained), "install_1 action");
    }

    #[test]
    fn name_that_is_not_found_has_near_ones() {
        let near = [json!({ "installationId": "install_1", "locationId": "LocA" })];
        let text = absent(&doctor("loca", Some("crm")), &near, false);
        for part in ["of the app crm", "loca", "LocA", "Not all", "connect-link"] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        let text = absent(&doctor("x", None), &[], true);
        assert!(
            !text.contains("near it") && !text.contains("Not all"),
            "{text}"
        );
    }

    #[test]
    fn name_is_escaped_in_the_search() {
        let path = search(&doctor("a b&c", Some("crm")), Some("install_1"));
        assert_eq!(
            path,
            "/v1/installations?q=a+b%26c&limit=20&app=crm&after=install_1"
        );
    }
}
