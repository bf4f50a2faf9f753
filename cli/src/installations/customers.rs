//! Commands for external ids and tags, for links with which customers connect, and for the deletion of an installation.

use clap::Args as Flags;
use serde_json::{Map, Value, json};

use super::{ORDER, children, confirm, is_agency, path_of};
use crate::args::OfApp;
use crate::exit::Failure;
use crate::operate::Admin;
use crate::output::Output;

#[derive(Debug, Flags)]
pub(crate) struct Tag {
    /// Its id, its location, its company or its external id
    pub installation: String,
    #[command(flatten)]
    pub of: OfApp,
    /// All tags that it has then, separated by commas; '' for none
    #[arg(long, value_name = "TAGS", required_unless_present_any = ["external_id", "no_external_id"])]
    pub set: Option<String>,
    /// The customer's id in your product. It is taken from the installation that has it
    #[arg(long, value_name = "ID", conflicts_with = "no_external_id")]
    pub external_id: Option<String>,
    /// Remove the external id
    #[arg(long)]
    pub no_external_id: bool,
}

#[derive(Debug, Flags)]
pub(crate) struct ConnectLink {
    /// The app [default: the only one, or `default`]
    #[arg(long, value_name = "NAME")]
    pub app: Option<store::AppName>,
    /// The customer's id in your product. It is taken from the installation that has it
    #[arg(long, value_name = "ID")]
    pub external_id: Option<String>,
    /// Let the external id replace another one of the account that consents
    #[arg(long, requires = "external_id")]
    pub replace: bool,
    /// A tag of the installation; repeat for more
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// The location that must consent [default: any]
    #[arg(long, value_name = "ID")]
    pub location: Option<store::LocationId>,
    #[command(flatten)]
    pub link: Link,
}

/// The flags of all links.
#[derive(Debug, Flags)]
pub(crate) struct Link {
    /// Where the browser goes afterwards [default: a page that says how it went]
    #[arg(long, value_name = "URL")]
    pub return_to: Option<String>,
    /// Let GHL's page not show GHL's name
    #[arg(long)]
    pub white_label: bool,
    /// How long the link is valid
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = humantime::parse_duration)]
    pub expires_in: std::time::Duration,
}

#[derive(Debug, Flags)]
pub(crate) struct ReconnectLink {
    /// Its id, its location, its company or its external id
    pub installation: String,
    #[command(flatten)]
    pub of: OfApp,
    #[command(flatten)]
    pub link: Link,
}

impl Link {
    fn to_json(&self) -> Map<String, Value> {
        let members = [
            ("return_to", json!(self.return_to)),
            ("white_label", json!(self.white_label)),
            ("expires_in", json!(self.expires_in.as_secs())),
        ];
        let members = members.into_iter();
        members
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

impl Tag {
    fn to_json(&self) -> Value {
        let mut change = Map::new();
        if let Some(tags) = &self.set {
            let tags = tags.split(',').map(str::trim).filter(|tag| !tag.is_empty());
            change.insert("tags".to_owned(), tags.collect());
        }
        if self.no_external_id || self.external_id.is_some() {
            change.insert("external_id".to_owned(), json!(self.external_id));
        }
        Value::Object(change)
    }
}

/// The members of a link that people ask for first. `--quiet` prints the link alone.
const LINK: [&str; 2] = ["url", "expires_at"];

pub(super) async fn tag(admin: &Admin, output: Output, wanted: &Tag) -> Result<(), Failure> {
    let path = path_of(&wanted.installation, "", &wanted.of);
    let change = wanted.to_json();
    let changed = admin.patch(&path, &change, "installationId").await?;
    output.object(&changed, &ORDER)
}

pub(super) async fn connect_link(
    admin: &Admin,
    output: Output,
    wanted: &ConnectLink,
) -> Result<(), Failure> {
    let mut body = wanted.link.to_json();
    let members = [
        ("app", json!(wanted.app)),
        ("external_id", json!(wanted.external_id)),
        ("replace", json!(wanted.replace)),
        ("tags", json!(wanted.tag)),
        ("location_id", json!(wanted.location)),
    ];
    body.extend(members.map(|(name, value)| (name.to_owned(), value)));
    let body = Value::Object(body);
    let made = admin.post("/v1/connect-links", Some(&body), "url").await?;
    output.object(&made, &LINK)
}

pub(super) async fn reconnect_link(
    admin: &Admin,
    output: Output,
    wanted: &ReconnectLink,
) -> Result<(), Failure> {
    let path = path_of(&wanted.installation, "/reconnect-link", &wanted.of);
    let body = Value::Object(wanted.link.to_json());
    let made = admin.post(&path, Some(&body), "url").await?;
    output.object(&made, &LINK)
}

pub(super) async fn delete(
    admin: &Admin,
    output: Output,
    installation: &str,
    of: &OfApp,
    is_confirmed: bool,
) -> Result<(), Failure> {
    let path = path_of(installation, "", of);
    if !is_confirmed {
        let known = admin.get(&path, "installationId").await?;
        confirm(&question(admin, &known).await?)?;
    }
    let deleted = admin.delete_shown(&path, "installationId").await?;
    output.object(
        &deleted,
        &["installationId", "uninstalledAtGhl", "locations"],
    )
}

async fn question(admin: &Admin, known: &Value) -> Result<String, Failure> {
    let text = |name: &str| known[name].as_str();
    let whose = text("locationId").or(text("companyId")).unwrap_or("-");
    let locations = match is_agency(known) {
        true => {
            let count = children(admin, known).await?.len();
            format!(" and those of its {count} locations")
        }
        false => String::new(),
    };
    Ok(format!(
        "This uninstalls the app at GHL and deletes the installation of {whose}{locations}."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_names_what_was_given_alone() {
        let tag = |set: Option<&str>, external_id: Option<&str>, no_external_id| Tag {
            installation: "locA".to_owned(),
            of: OfApp { app: None },
            set: set.map(str::to_owned),
            external_id: external_id.map(str::to_owned),
            no_external_id,
        };
        for (given, expected) in [
            (
                tag(Some("a, b"), None, false),
                json!({ "tags": ["a", "b"] }),
            ),
            (tag(Some(""), None, false), json!({ "tags": [] })),
            (tag(None, Some("42"), false), json!({ "external_id": "42" })),
            (tag(None, None, true), json!({ "external_id": null })),
        ] {
            assert_eq!(given.to_json(), expected);
        }
    }
}
