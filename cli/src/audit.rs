//! `evergreen audit`: shows the audit log of a running process.

use serde_json::Value;
use service::config::Layered;
use url::form_urlencoded::Serializer;

use crate::args::Audit;
use crate::exit::Failure;
use crate::operate::{Admin, array};
use crate::output::{Column, List, Output, member, time};
use crate::process::read;

/// No entries may also mean that a filter leaves none.
const ENTRIES: List = List {
    columns: &[
        Column::time("TIME", |entry| time(entry, "at")),
        Column::text("ACTION", |entry| member(entry, "action")),
        Column::state("OUTCOME", |entry| member(entry, "outcome")).spare(3),
        Column::text("BY", by),
        Column::text("ABOUT", about),
        Column::text("ADDRESS", address).spare(1),
        Column::number("COUNT", |entry| member(entry, "count")).spare(2),
        Column::text("DETAIL", |entry| member(entry, "detail")),
    ],
    id: |entry| member(entry, "at"),
    empty: "There are no such entries yet. `evergreen audit` without filters shows the newest",
};

/// `evergreen audit …`.
pub(crate) async fn show(source: &Layered, output: Output, wanted: &Audit) -> Result<(), Failure> {
    let admin = Admin::new(read(source, Admin::read)?)?;
    let answer = admin.get(&path(wanted), "entries").await?;
    let mut rows = output.list(&ENTRIES);
    rows.add(array(&answer, "entries"))?;
    rows.end()
}

fn path(wanted: &Audit) -> String {
    let limit = wanted.limit.to_string();
    let mut query = Serializer::new(String::new());
    query.append_pair("limit", &limit);
    if let Some(installation) = &wanted.installation {
        query.append_pair("installation", installation);
    }
    if let Some(app) = &wanted.app {
        query.append_pair("app", app.as_str());
    }
    if let Some(key) = &wanted.key {
        query.append_pair("key", key);
    }
    if let Some(action) = &wanted.action {
        query.append_pair("action", action);
    }
    format!("/v1/audit?{}", query.finish())
}

fn by(entry: &Value) -> String {
    match entry["by"]["kind"].as_str() {
        Some("key") => named(&entry["by"]),
        Some(kind) => kind.replace('_', " "),
        None => "-".to_owned(),
    }
}

fn about(entry: &Value) -> String {
    match &entry["key"] {
        Value::Null => member(entry, "installation"),
        key => named(key),
    }
}

fn address(entry: &Value) -> String {
    match array(entry, "otherAddresses").count() {
        0 => member(entry, "address"),
        others => format!("{} +{others}", member(entry, "address")),
    }
}

fn named(key: &Value) -> String {
    format!("{} {}", member(key, "id"), member(key, "name"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(entry: &Value) -> String {
        let cells = [by, about, address].map(|cell| cell(entry));
        cells.join(" | ")
    }

    #[test]
    fn row_shows_who_did_what_to_whom() {
        let entry = json!({
            "by": { "kind": "key", "id": "0123abcd", "name": "crm" },
            "installation": "install_00112233445566778899aabb",
            "address": "10.0.0.7", "otherAddresses": ["10.0.0.8"],
        });
        let expected = "0123abcd crm | install_00112233445566778899aabb | 10.0.0.7 +1";
        assert_eq!(row(&entry), expected);
        let about_key = json!({ "key": { "id": "0123abcd", "name": "crm" }, "address": "::1" });
        assert_eq!(row(&about_key), "- | 0123abcd crm | ::1");
    }

    #[test]
    fn row_of_an_unknown_kind_is_shown_as_far_as_it_is_known() {
        let entry = json!({ "action": "imported", "by": { "kind": "local_admin" }, "count": 1 });
        assert_eq!(row(&entry), "local admin | - | -");
    }

    #[test]
    fn filters_are_part_of_the_request() {
        let wanted = Audit {
            installation: Some("install_1".to_owned()),
            app: Some("staging".parse().unwrap()),
            key: Some("a & b".to_owned()),
            action: Some("key_revoked".to_owned()),
            limit: 5,
        };
        let expected =
            "/v1/audit?limit=5&installation=install_1&app=staging&key=a+%26+b&action=key_revoked";
        assert_eq!(path(&wanted), expected);
    }
}
