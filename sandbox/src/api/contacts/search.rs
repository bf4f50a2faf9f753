//! `POST /contacts/search`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::api::Caller;
use crate::api::caller::Agency;
use crate::app::App;
use crate::error::ApiError;
use crate::fields::{JsonObject, missing};

const DEFAULT_PAGE: usize = 20;
const MAX_PAGE: usize = 500;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Search {
    page: Option<usize>,
    page_limit: Option<usize>,
    query: Option<String>,
    #[serde(default)]
    filters: Vec<Filter>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Filter {
    Group {
        group: Group,
        filters: Vec<Filter>,
    },
    Field {
        field: String,
        operator: Operator,
        #[serde(default)]
        value: Value,
    },
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Group {
    And,
    Or,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Operator {
    Eq,
    NotEq,
    Contains,
    NotContains,
    Exists,
    NotExists,
}

impl Filter {
    fn admits(&self, contact: &Map<String, Value>) -> bool {
        match self {
            Self::Group { group, filters } => {
                let mut filters = filters.iter();
                match group {
                    Group::And => filters.all(|filter| filter.admits(contact)),
                    Group::Or => filters.any(|filter| filter.admits(contact)),
                }
            }
            Self::Field {
                field,
                operator,
                value,
            } => {
                let found = contact.get(field).unwrap_or(&Value::Null);
                match operator {
                    Operator::Eq => equals(found, value),
                    Operator::NotEq => !equals(found, value),
                    Operator::Contains => contains(found, value),
                    Operator::NotContains => !contains(found, value),
                    Operator::Exists => !found.is_null(),
                    Operator::NotExists => found.is_null(),
                }
            }
        }
    }
}

/// A list of values admits each of them. Upper case does not matter.
fn equals(found: &Value, value: &Value) -> bool {
    match (found, value) {
        (found, Value::Array(values)) => values.iter().any(|value| equals(found, value)),
        (Value::Array(found), value) => found.iter().any(|found| equals(found, value)),
        (Value::String(found), Value::String(value)) => {
            found.to_lowercase() == value.to_lowercase()
        }
        (found, value) => found == value,
    }
}

fn contains(found: &Value, value: &Value) -> bool {
    match (found, value) {
        (Value::String(found), Value::String(value)) => {
            found.to_lowercase().contains(&value.to_lowercase())
        }
        (Value::Array(found), value) => found.iter().any(|found| contains(found, value)),
        _ => false,
    }
}

/// `POST /contacts/search`, newest first.
pub(in crate::api) async fn search(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: JsonObject,
) -> Result<Json<Value>, ApiError> {
    let id = body
        .text("locationId")
        .ok_or_else(|| missing("locationId"))?
        .to_owned();
    let search: Search = serde_json::from_value(Value::Object(body.0))
        .map_err(|mistake| ApiError::invalid([mistake.to_string()]))?;
    let limit = search.page_limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(ApiError::invalid([format!(
            "pageLimit must not be greater than {MAX_PAGE}"
        )]));
    }
    let skip = search
        .page
        .unwrap_or(1)
        .saturating_sub(1)
        .saturating_mul(limit);
    let query = search.query.as_deref().map(str::to_lowercase);
    let wanted = |contact: &&Map<String, Value>| {
        super::matches(contact, query.as_deref())
            && search.filters.iter().all(|filter| filter.admits(contact))
    };
    let trace = app.ids.uuid();
    let mut world = app.world();
    let location = caller.location(&mut world, &id, Agency::Refused)?;
    let found: Vec<_> = location.contacts.iter().rev().filter(wanted).collect();
    let page: Vec<_> = found.iter().skip(skip).take(limit).collect();
    Ok(Json(
        json!({"contacts": page, "total": found.len(), "traceId": trace}),
    ))
}
