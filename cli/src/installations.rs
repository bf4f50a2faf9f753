//! `evergreen installations …`.

pub(crate) mod customers;
mod export;
mod import;

use std::io::{IsTerminal, Write, stdin, stdout};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use service::config::Layered;
use store::AppName;
use url::form_urlencoded::Serializer;

use crate::args::{AddToken, Installations, ListInstallations, OfApp};
use crate::exit::Failure;
use crate::operate::{Admin, print};
use crate::process::read;

/// The entries of one page of the list.
const PAGE: &str = "500";

pub(crate) async fn installations(source: &Layered, what: Installations) -> Result<(), Failure> {
    let admin = Admin::new(read(source, Admin::read)?)?;
    match what {
        Installations::List(only) => list(&admin, &only).await,
        Installations::Show { installation, of } => show(&admin, &installation, &of).await,
        Installations::Refresh {
            installation,
            of,
            force,
        } => {
            let path = path_of(&installation, "/refresh", &of);
            let separator = if of.app.is_some() { '&' } else { '?' };
            let path = format!("{path}{separator}force={force}");
            print(&admin.post(&path, None, "generation").await?);
            Ok(())
        }
        Installations::Revoke {
            installation,
            of,
            yes,
        } => revoke(&admin, &installation, &of, yes).await,
        Installations::AddToken(of) => add_token(&admin, &of).await,
        Installations::Import(what) => import::import(&admin, &what).await,
        Installations::Export(what) => export::export(&admin, &what).await,
        Installations::Tag(wanted) => customers::tag(&admin, &wanted).await,
        Installations::ConnectLink(wanted) => customers::connect_link(&admin, &wanted).await,
        Installations::ReconnectLink(wanted) => customers::reconnect_link(&admin, &wanted).await,
        Installations::Delete {
            installation,
            of,
            yes,
        } => customers::delete(&admin, &installation, &of, yes).await,
    }
}

async fn list(admin: &Admin, only: &ListInstallations) -> Result<(), Failure> {
    let mut page = admin.get(&path(only, None), "installations").await?;
    println!(
        "{:<33} {:<10} {:<10} {:<24} {:<21} {:<21} LAST ERROR",
        "INSTALLATION", "APP", "TOKEN", "LOCATION OR COMPANY", "EXPIRES", "NEXT REFRESH"
    );
    loop {
        for one in entries(&page) {
            let text = |key: &str| one[key].as_str().unwrap_or("-");
            let whose = one["locationId"].as_str().unwrap_or(text("companyId"));
            let error = one["lastError"]["message"].as_str().unwrap_or("");
            println!(
                "{:<33} {:<10} {:<10} {whose:<24} {:<21} {:<21} {error}",
                text("installationId"),
                text("app"),
                text("tokenStatus"),
                text("expiresAt"),
                text("nextRefreshAt"),
            );
        }
        let Some(next) = page["next"].as_str() else {
            return Ok(());
        };
        page = admin.get(&path(only, Some(next)), "installations").await?;
    }
}

/// An agency is shown with its locations.
async fn show(admin: &Admin, installation: &str, of: &OfApp) -> Result<(), Failure> {
    let path = path_of(installation, "", of);
    let mut shown = admin.get(&path, "installationId").await?;
    if is_agency(&shown) {
        let children = children(admin, &shown).await?;
        shown["children"] = json!(children);
    }
    print(&shown);
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

async fn add_token(admin: &Admin, of: &AddToken) -> Result<(), Failure> {
    if stdin().is_terminal() {
        eprintln!("Paste the token, then press Enter:");
    }
    let mut token = String::new();
    stdin()
        .read_line(&mut token)
        .map_err(Failure::unavailable)?;
    let body = json!({
        "app": of.app,
        "location_id": of.location,
        "company_id": of.company,
        "token": token.trim(),
    });
    let path = "/v1/private-tokens";
    print(&admin.post(path, Some(&body), "installationId").await?);
    Ok(())
}

async fn revoke(
    admin: &Admin,
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
    print(&admin.post(&path, None, "installationId").await?);
    Ok(())
}

fn confirm(question: &str) -> Result<(), Failure> {
    if !stdin().is_terminal() {
        return Err(Failure::Refused(format!(
            "{question} Repeat the command with --yes"
        )));
    }
    print!("{question} Continue? [y/N] ");
    let mut answer = String::new();
    let asked = stdout()
        .flush()
        .and_then(|()| stdin().read_line(&mut answer));
    asked.map_err(Failure::unavailable)?;
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
    let mut children = Vec::new();
    let mut after = None;
    loop {
        let page = admin
            .get(&path(&only, after.as_deref()), "installations")
            .await?;
        children.extend(entries(&page).cloned());
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            return Ok(children);
        }
    }
}

fn entries(page: &Value) -> impl Iterator<Item = &Value> {
    page["installations"].as_array().into_iter().flatten()
}

fn path(only: &ListInstallations, after: Option<&str>) -> String {
    let query = [
        ("limit", Some(PAGE)),
        ("after", after),
        ("app", only.app.as_ref().map(AppName::as_str)),
        ("company", only.company.as_deref()),
        ("parent", only.parent.as_deref()),
        ("status", only.status.as_deref()),
        ("tag", only.tag.as_deref()),
        ("external_id", only.external_id.as_deref()),
        ("location", only.location.as_deref()),
    ];
    let mut text = Serializer::new(String::new());
    for (name, value) in query {
        text.extend_pairs(value.map(|value| (name, value)));
    }
    format!("/v1/installations?{}", text.finish())
}
