//! The details of an installation in GHL's webhooks: everything besides its owner.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// GHL's are far shorter. An endless text must not fill the store.
const MAX_BYTES: usize = 256;

/// The names under which the facts are kept, and where GHL's events have them.
const FACTS: [(&str, &[&str]); 14] = [
    ("companyName", &["companyName"]),
    ("installType", &["installType"]),
    ("userId", &["userId"]),
    ("versionId", &["versionId"]),
    ("previousVersionId", &["previousVersionId"]),
    ("planId", &["planId"]),
    ("planId", &["newPlanId"]),
    ("previousPlanId", &["currentPlanId"]),
    ("onTrial", &["trial", "onTrial"]),
    ("trialDuration", &["trial", "trialDuration"]),
    ("trialStartDate", &["trial", "trialStartDate"]),
    ("isWhitelabelCompany", &["isWhitelabelCompany"]),
    ("whitelabelDomain", &["whitelabelDetails", "domain"]),
    ("whitelabelLogoUrl", &["whitelabelDetails", "logoUrl"]),
];

/// The facts of an event, as texts. Those that GHL does not tell are absent.
pub(super) fn read(fields: &Map<String, Value>) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    for (name, path) in FACTS {
        if let Some(text) = at(fields, path).and_then(text) {
            facts.insert(name.to_owned(), text);
        }
    }
    facts
}

fn at<'a>(fields: &'a Map<String, Value>, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let value = fields.get(*first)?;
    match rest {
        [] => Some(value),
        rest => at(value.as_object()?, rest),
    }
}

fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(is_so) => is_so.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    (1..=MAX_BYTES).contains(&text.len()).then_some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_from(body: &Value) -> BTreeMap<String, String> {
        read(body.as_object().unwrap())
    }

    #[test]
    fn facts_of_each_event_have_one_name() {
        let installed = read_from(&json!({
            "type": "INSTALL",
            "companyName": "Northwind",
            "planId": "p1",
            "trial": { "onTrial": true, "trialDuration": 14 },
            "whitelabelDetails": { "domain": "app.northwind.example" },
        }));
        assert_eq!(installed["companyName"], "Northwind");
        assert_eq!(installed["onTrial"], "true");
        assert_eq!(installed["trialDuration"], "14");
        assert_eq!(installed["whitelabelDomain"], "app.northwind.example");
        let changed = read_from(&json!({ "currentPlanId": "p1", "newPlanId": "p2" }));
        assert_eq!(changed["planId"], "p2");
        assert_eq!(changed["previousPlanId"], "p1");
    }

    #[test]
    fn facts_of_another_shape_are_left_out() {
        let long = "x".repeat(MAX_BYTES + 1);
        let body = json!({ "companyName": long, "userId": ["u"], "trial": "yes", "planId": "" });
        assert_eq!(read_from(&body), BTreeMap::new());
    }
}
