//! `evergreen audit`: shows the audit log of a running process.

use serde_json::Value;
use service::config::Layered;
use url::form_urlencoded::Serializer;

use crate::args::{Audit, Output};
use crate::exit::Failure;
use crate::operate::{Admin, print};
use crate::process::read;

/// `evergreen audit …`.
pub(crate) async fn show(source: &Layered, wanted: &Audit) -> Result<(), Failure> {
    let admin = Admin::new(read(source, Admin::read)?)?;
    let answer = admin.get(&path(wanted), "entries").await?;
    match wanted.output {
        Output::Json => print(&answer["entries"]),
        Output::Table => {
            let entries = answer["entries"].as_array().cloned().unwrap_or_default();
            println!(
                "{:<24} {:<24} {:<8} {:<33} {:<33} {:<16} {:<8} DETAIL",
                "TIME", "ACTION", "OUTCOME", "BY", "INSTALLATION OR KEY", "ADDRESS", "COUNT"
            );
            for entry in &entries {
                println!("{}", row(entry));
            }
        }
    }
    Ok(())
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

fn row(entry: &Value) -> String {
    let text = |name: &str| entry[name].as_str().unwrap_or("-");
    let by = match entry["by"]["kind"].as_str() {
        Some("key") => named(&entry["by"]),
        Some(kind) => kind.replace('_', " "),
        None => "-".to_owned(),
    };
    let about = match &entry["key"] {
        Value::Null => text("installation").to_owned(),
        key => named(key),
    };
    let others = entry["otherAddresses"].as_array().map_or(0, Vec::len);
    let address = match others {
        0 => text("address").to_owned(),
        others => format!("{} +{others}", text("address")),
    };
    let row = format!(
        "{:<24} {:<24} {:<8} {by:<33} {about:<33} {address:<16} {:<8} {}",
        text("at"),
        text("action"),
        text("outcome"),
        entry["count"],
        entry["detail"].as_str().unwrap_or_default(),
    );
    row.trim_end().to_owned()
}

fn named(key: &Value) -> String {
    let text = |name: &str| key[name].as_str().unwrap_or("-");
    format!("{} {}", text("id"), text("name"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn row_shows_who_did_what_to_whom() {
        let entry = json!({
            "at": "2026-11-29T12:00:00.000Z", "action": "token_fetched", "outcome": "done",
            "by": { "kind": "key", "id": "0123abcd", "name": "crm" },
            "installation": "install_00112233445566778899aabb",
            "address": "10.0.0.7", "otherAddresses": ["10.0.0.8"], "count": 3,
        });
        let row = row(&entry);
        let words: Vec<&str> = row.split_whitespace().collect();
        let expected = "2026-11-29T12:00:00.000Z token_fetched done 0123abcd crm \
                        install_00112233445566778899aabb 10.0.0.7 +1 3";
        assert_eq!(words.join(" "), expected);
    }

    #[test]
    fn row_of_an_unknown_kind_is_shown_as_far_as_it_is_known() {
        let entry = json!({ "action": "imported", "by": { "kind": "local_admin" }, "count": 1 });
        let row = row(&entry);
        assert!(
            row.contains("imported") && row.contains("local admin"),
            "{row}"
        );
    }

    #[test]
    fn filters_are_part_of_the_request() {
        let wanted = Audit {
            installation: Some("install_1".to_owned()),
            app: Some("staging".parse().unwrap()),
            key: Some("a & b".to_owned()),
            action: Some("key_revoked".to_owned()),
            limit: 5,
            output: Output::Json,
        };
        let expected =
            "/v1/audit?limit=5&installation=install_1&app=staging&key=a+%26+b&action=key_revoked";
        assert_eq!(path(&wanted), expected);
    }
}
