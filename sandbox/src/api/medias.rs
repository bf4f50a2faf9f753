//! `/medias`.

pub(super) mod manage;

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use futures_util::StreamExt;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use multer::{Constraints, Multipart, SizeLimit};
use serde_json::{Map, Value, json};

use super::Caller;
use super::caller::Agency;
use crate::app::App;
use crate::error::ApiError;
use crate::fields::Fields;

/// GHL's documents: "maximum allowed is 25 MB".
const FILE_LIMIT: u64 = 25 * 1024 * 1024;

/// The most bytes that are read of a body. It exceeds the file limit, so that a caller with a larger file
/// gets a response instead of a broken connection.
const BODY_LIMIT: u64 = 4 * FILE_LIMIT;

const TEXT_LIMIT: u64 = 16 * 1024;

/// Reads the form while it streams. Only the size of a file is kept.
pub(super) async fn upload(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    caller.own_location(&mut app.world())?;
    let form = Form::read(&headers, body).await?;
    let id = app.ids.record(24);
    let mut world = app.world();
    let location = caller.own_location(&mut world)?;
    let (url, name) = form.stored(&location.id, &id)?;
    let mut media = Map::new();
    for (field, value) in [
        ("_id", json!(id)),
        ("altId", json!(*location.id)),
        ("altType", json!("location")),
        ("name", json!(name)),
        ("parentId", json!(form.parent)),
        ("type", json!("file")),
        ("path", json!(format!("media/{id}"))),
        ("url", json!(url)),
        ("size", json!(form.file.map(|file| file.bytes))),
    ] {
        media.insert(field.to_owned(), value);
    }
    location.medias.put(id.clone(), media);
    Ok(Json(json!({"fileId": id, "url": url})))
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Fields,
) -> Result<Json<Value>, ApiError> {
    for name in ["sortBy", "sortOrder", "type", "altType"] {
        query.required(name)?;
    }
    let id = query.required("altId")?;
    let offset = query.number("offset", 0)?;
    let limit = query.number("limit", 20)?;
    let mut world = app.world();
    let location = caller.location(&mut world, id, Agency::Refused)?;
    let search = query.get("query").map(str::to_lowercase);
    let text = |media: &Map<String, Value>, name: &str| {
        let value = media.get(name).and_then(Value::as_str);
        value.map(str::to_lowercase)
    };
    let mut files: Vec<_> = location
        .medias
        .iter()
        .rev()
        .filter(|media| text(media, "type").as_deref() == query.get("type"))
        .filter(|media| {
            let name = text(media, "name").unwrap_or_default();
            search.as_ref().is_none_or(|part| name.contains(part))
        })
        .filter(|media| {
            let parent = media.get("parentId").and_then(Value::as_str);
            query.get("parentId").is_none_or(|id| parent == Some(id))
        })
        .collect();
    if query.get("sortBy") == Some("name") {
        files.sort_by_key(|media| text(media, "name"));
        if query.get("sortOrder") == Some("desc") {
            files.reverse();
        }
    }
    let page: Vec<_> = files.iter().skip(offset).take(limit).collect();
    Ok(Json(json!({"files": page})))
}

/// The upload form, without the file.
#[derive(Debug, Default)]
struct Form {
    file: Option<File>,
    hosted: bool,
    file_url: Option<String>,
    name: Option<String>,
    parent: Option<String>,
}

#[derive(Clone, Debug)]
struct File {
    name: Option<String>,
    bytes: u64,
}

impl Form {
    async fn read(headers: &HeaderMap, body: Body) -> Result<Self, ApiError> {
        let boundary = headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| multer::parse_boundary(value).ok())
            .ok_or_else(|| ApiError::bad_request("Multipart: Boundary not found"))?;
        let limits = SizeLimit::new().whole_stream(BODY_LIMIT);
        let mut multipart = Multipart::with_constraints(
            body.into_data_stream(),
            boundary,
            Constraints::new().size_limit(limits),
        );
        let mut form = Self::default();
        while let Some(field) = multipart
            .next_field()
            .await
            .map_err(|error| broken(&error))?
        {
            form.take(field).await?;
        }
        match &form.file {
            Some(file) if file.bytes > FILE_LIMIT => Err(too_large()),
            Some(_) | None => Ok(form),
        }
    }

    async fn take(&mut self, mut field: multer::Field<'_>) -> Result<(), ApiError> {
        let name = field.name().unwrap_or_default().to_owned();
        if name == "file" {
            let mut file = File {
                name: field.file_name().map(str::to_owned),
                bytes: 0,
            };
            while let Some(piece) = field.next().await {
                file.bytes += piece.map_err(|error| broken(&error))?.len() as u64;
            }
            self.file = Some(file);
            return Ok(());
        }
        let mut text = Vec::new();
        while let Some(piece) = field.next().await {
            let piece = piece.map_err(|error| broken(&error))?;
            if (text.len() + piece.len()) as u64 > TEXT_LIMIT {
                return Err(ApiError::bad_request("Field value too long"));
            }
            text.extend_from_slice(&piece);
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        match name.as_str() {
            "hosted" => self.hosted = text == "true",
            "fileUrl" => self.file_url = Some(text),
            "name" => self.name = Some(text),
            "parentId" => self.parent = Some(text),
            _ => {}
        }
        Ok(())
    }

    /// The file's URL and name.
    fn stored(&self, location: &str, id: &str) -> Result<(String, String), ApiError> {
        let source = if self.hosted {
            let url = self.file_url.as_deref().filter(|url| !url.is_empty());
            let url = url.ok_or_else(|| ApiError::bad_request("fileUrl is required"))?;
            url.rsplit('/').next().map(str::to_owned)
        } else {
            let file = self.file.as_ref();
            let file = file.ok_or_else(|| ApiError::bad_request("file is required"))?;
            file.name.clone()
        };
        let name = self
            .name
            .clone()
            .or(source)
            .unwrap_or_else(|| id.to_owned());
        let extension = name
            .rsplit_once('.')
            .map(|(_, extension)| extension)
            .filter(|extension| {
                extension
                    .chars()
                    .all(|letter| letter.is_ascii_alphanumeric())
            })
            .map(|extension| format!(".{extension}"))
            .unwrap_or_default();
        let url = format!("https://storage.sandbox.invalid/{location}/media/{id}{extension}");
        Ok((url, name))
    }
}

fn broken(error: &multer::Error) -> ApiError {
    match error {
        multer::Error::StreamSizeExceeded { .. } => too_large(),
        error => ApiError::bad_request(&format!("Multipart: {error}")),
    }
}

fn too_large() -> ApiError {
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "File too large")
}
