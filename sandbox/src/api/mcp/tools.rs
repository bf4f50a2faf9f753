//! The tools of the sandbox's MCP server, with GHL's names.

use serde_json::{Map, Value, json};

use super::{Failure, INVALID_PARAMS};
use crate::api::Caller;
use crate::api::contacts;
use crate::app::App;

/// The descriptions of all tools.
pub(super) fn list() -> Value {
    json!([
        {
            "name": "contacts_get-contacts",
            "description": "Get contacts of the location",
            "inputSchema": {
                "type": "object",
                "properties": {"query": {"type": "string"}, "limit": {"type": "number"}},
            },
        },
        {
            "name": "locations_get-location",
            "description": "Get the location",
            "inputSchema": {"type": "object", "properties": {}},
        },
    ])
}

/// Calls the tool that the parameters name, for the caller's own location.
pub(super) fn call(
    app: &App,
    caller: &Caller,
    params: Option<&Map<String, Value>>,
) -> Result<Value, Failure> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_lowercase);
    let name = params.and_then(|params| params.get("name"));
    let arguments = params.and_then(|params| params.get("arguments"));
    let mut world = app.world();
    let location = caller.own_location(&mut world);
    let location = location.map_err(|_| invalid("The token is not a location's"))?;
    let found = match name.and_then(Value::as_str) {
        Some("contacts_get-contacts") => {
            let argument = |name| arguments.and_then(|arguments| arguments.get(name));
            let query = text(argument("query"));
            let limit = argument("limit").and_then(Value::as_u64).unwrap_or(20);
            let wanted = location.contacts.iter().rev();
            let wanted = wanted.filter(|contact| contacts::matches(contact, query.as_deref()));
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            json!({"contacts": wanted.take(limit).collect::<Vec<_>>()})
        }
        Some("locations_get-location") => json!({"location": location.describe()}),
        Some(_) | None => return Err(invalid("Unknown tool")),
    };
    Ok(json!({"content": [{"type": "text", "text": found.to_string()}], "isError": false}))
}

fn invalid(message: &str) -> Failure {
    Failure(INVALID_PARAMS, message.to_owned())
}
