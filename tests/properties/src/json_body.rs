//! The look into JSON bodies: `gateway/src/request/json.rs`.

use gateway::fuzzing::{json_members, json_with_location};
use serde_json::{Map, Value};

/// Members are those that another parser finds. A body that gets a location keeps every byte.
pub fn check(body: &[u8]) {
    let members = json_members(body);
    let filled = json_with_location(body, "LOC1");
    if std::str::from_utf8(body).is_ok() {
        assert_eq!(members.is_some(), filled.is_some());
    }
    let parsed = serde_json::from_slice::<Map<String, Value>>(body);
    let (Some(members), Some(filled)) = (members, filled) else {
        assert!(parsed.is_err(), "an object is not found");
        return;
    };
    if let Ok(object) = &parsed {
        for (name, raw) in ["locationId", "companyId"].into_iter().zip(&members) {
            let raw = raw.as_deref();
            let value: Option<Value> = raw.map(|raw| serde_json::from_str(raw).expect("JSON"));
            assert_eq!(value.as_ref(), object.get(name));
        }
    }
    if members[0].is_some() {
        assert_eq!(filled, body);
        return;
    }
    let added = filled.len() - body.len();
    let opening = filled.iter().position(|byte| *byte == b'{');
    let opening = opening.expect("an object") + 1;
    assert_eq!(filled[..opening], body[..opening]);
    assert_eq!(filled[opening + added..], body[opening..]);
    assert_eq!(
        json_with_location(&filled, "OTHER").as_deref(),
        Some(&*filled)
    );
    if let Ok(mut object) = parsed {
        object.insert("locationId".to_owned(), "LOC1".into());
        let filled: Map<String, Value> = serde_json::from_slice(&filled).expect("an object");
        assert_eq!(filled, object);
    }
}
