//! `evergreen apps …`.

use serde_json::json;
use service::config::Layered;

use crate::args::Apps;
use crate::exit::Failure;
use crate::operate::{Admin, array};
use crate::output::{Column, List, Output, member};
use crate::process::read;

const APPS: List = List {
    columns: &[
        Column::text("NAME", |app| member(app, "name")),
        Column::text("CLIENT ID OF THE BROKER", |app| member(app, "clientId")),
        Column::text("APP AT GHL IN THE STORE", |app| member(app, "appIdInStore")),
        Column::text("PROBLEM", |app| member(app, "problem")),
    ],
    id: |app| member(app, "name"),
    empty: "There are no apps yet. GHL_CLIENT_ID and GHL_CLIENT_SECRET of `up` or a broker name the first one",
};

pub(crate) async fn apps(source: &Layered, output: Output, what: Apps) -> Result<(), Failure> {
    let admin = Admin::new(read(source, Admin::read)?)?;
    match what {
        Apps::List => {
            let listed = admin.get("/v1/apps", "apps").await?;
            let mut rows = output.list(&APPS);
            rows.add(array(&listed, "apps"))?;
            rows.end()
        }
        Apps::Free { name } => {
            admin.delete(&format!("/v1/apps/{name}")).await?;
            let freed = json!({ "name": name, "free": true });
            output.report(&freed, name.as_str(), || "free".to_owned())
        }
    }
}
