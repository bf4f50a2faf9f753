//! `evergreen installations …`.

pub(crate) mod customers;
mod export;
mod import;
mod list;

use std::io::{IsTerminal, stdin};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use service::config::Layered;

use crate::args::{AddToken, Installations, ListInstallations, OfApp};
use crate::exit::Failure;
use crate::operate::Admin;
use crate::output::{Output, ask, member};
use crate::process::read;
use list::{INSTALLATIONS, Pages};

/// The members of an installation that people ask for first.
const ORDER: [&str; 9] = [
    "installationId",
    "tokenStatus",
    "app",
    "locationId",
    "companyId",
    "externalId",
    "expiresAt",
    "nextRefreshAt",
    "lastError",
];

pub(crate) async fn installations(
    source: &Layered,
    output: Output,
    what: Installations,
) -> Result<(), Failure> {
    let admin = Admin::new(read(source, Admin::read)?)?;
    match what {
        Installations::List(only) => list::list(&admin, output, &only).await,
        Installations::Show { installation, of } => show(&admin, output, &installation, &of).await,
        Installations::Refresh {
            installation,
            of,
            force,
        } => {
            let path = path_of(&installation, "/refresh", &of);
            let separator = if of.app.is_some() { '&' } else { '?' };
            let path = format!("{path}{separator}force={force}");
            let refreshed = admin.post(&path, None, "generation").await?;
            let generation = member(&refreshed, "generation");
            output.report(&refreshed, &generation, || {
                format!("refreshed: the token has the generation {generation}")
            })
        }
        Installations::Revoke {
            installation,
            of,
            yes,
        } => revoke(&admin, output, &installation, &of, yes).await,
        Installations::AddToken(of) => add_token(&admin, output, &of).await,
        Installations::Import(what) => import::import(&admin, output, &what).await,
        Installations::Export(what) => export::export(&admin, output, &what).await,
        Installations::Tag(wanted) => customers::tag(&admin, output, &wanted).await,
        Installations::ConnectLink(wanted) => {
            customers::connect_link(&admin, output, &wanted).await
        }
        Installations::ReconnectLink(wanted) => {
            customers::reconnect_link(&admin, output, &wanted).await
        }
        Installations::Delete {
            installation,
            of,
            yes,
        } => customers::delete(&admin, output, &installation, &of, yes).await,
    }
}

/// An agency is shown with its locations.
async fn show(
    admin: &Admin,
    output: Output,
    installation: &str,
    of: &OfApp,
) -> Result<(), Failure> {
    let path = path_of(installation, "", of);
    let mut shown = admin.get(&path, "installationId").await?;
    if !is_agency(&shown) {
        return output.object(&shown, &ORDER);
    }
    let children = children(admin, &shown).await?;
    if output.is_json() {
        shown["children"] = json!(children);
    }
    output.object(&shown, &ORDER)?;
    if output.is_table() && !children.is_empty() {
        output.line("")?;
        let mut rows = output.list(&INSTALLATIONS);
        rows.add(&children)?;
        rows.end()?;
    }
    Ok(())
}

/// The path of an installation of this app, with `rest`. A name may have any characters.
fn path_of(installation: &str, rest: &str, of: &OfApp) -> String {
    let name = utf8_percent_encode(installation, NON_ALPHANUMERIC);
    let path = format!("/v1/installations/{name}{rest}");
    match &of.app {
        Some(app) => format!("{path}?app={app}"),
        None => path,
    }
}

async fn add_token(admin: &Admin, output: Output, of: &AddToken) -> Result<(), Failure> {
    if stdin().is_terminal() {
        ask("Paste the token, then press Enter:");
    }
    let mut token = String::new();
    stdin()
        .read_line(&mut token)
        .map_err(|error| Failure::NoAnswer(format!("the standard input: {error}")))?;
    let body = json!({
        "app": of.app,
        "location_id": of.location,
        "company_id": of.company,
        "token": token.trim(),
    });
    let path = "/v1/private-tokens";
    let added = admin.post(path, Some(&body), "installationId").await?;
    output.object(&added, &ORDER)
}

async fn revoke(
    admin: &Admin,
    output: Output,
    installation: &str,
    of: &OfApp,
    is_confirmed: bool,
) -> Result<(), Failure> {
    if !is_confirmed {
        let path = path_of(installation, "", of);
        let known = admin.get(&path, "installationId").await?;
        if is_agency(&known) {
            let count = children(admin, &known).await?.len();
            confirm(&format!(
                "This ends the agency's installation and those of its {count} locations."
            ))?;
        }
    }
    let path = path_of(installation, "/revoke", of);
    let revoked = admin.post(&path, None, "installationId").await?;
    output.object(&revoked, &ORDER)
}

fn confirm(question: &str) -> Result<(), Failure> {
    if !stdin().is_terminal() {
        return Err(Failure::Refused(format!(
            "{question} Repeat the command with --yes"
        )));
    }
    ask(&format!("{question} Continue? [y/N]"));
    let mut answer = String::new();
    let read = stdin().read_line(&mut answer);
    read.map_err(|error| Failure::NoAnswer(format!("the standard input: {error}")))?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::Refused("Nothing was changed".to_owned())),
    }
}

fn is_agency(shown: &Value) -> bool {
    shown["locations"].is_object()
}

async fn children(admin: &Admin, agency: &Value) -> Result<Vec<Value>, Failure> {
    let only = ListInstallations {
        parent: agency["installationId"].as_str().map(str::to_owned),
        ..ListInstallations::default()
    };
    let mut pages = Pages::of(admin, &only);
    let mut children = Vec::new();
    while let Some(page) = pages.next().await? {
        children.extend(page);
    }
    Ok(children)
}
