//! Parts that all routes share in the documentation (OpenAPI 3.1): security, and the errors of layers.

use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::server::Server;
use utoipa::openapi::{ContentBuilder, Header, OpenApi, Ref, RefOr, Response};
use utoipa::{PartialSchema, ToSchema};

use crate::error_body::{ErrorBody, PROBLEM, Problem, Shape};

/// A key as `Authorization: Bearer …`.
pub const BEARER: &str = "bearer";
/// A key as `X-Api-Key`.
pub const API_KEY: &str = "apiKey";

/// An address, and what it is.
pub type Listener = (&'static str, &'static str);
/// The internal listener of `evergreen up` and `evergreen gateway`.
pub const INTERNAL: Listener = (
    "http://127.0.0.1:9080",
    "The internal listener (`EVERGREEN_INTERNAL_LISTEN`)",
);
/// The public listener of both.
pub const PUBLIC: Listener = (
    "http://127.0.0.1:8080",
    "The public listener (`EVERGREEN_LISTEN`)",
);

/// A server of the document.
#[must_use]
pub fn server((url, description): Listener) -> Server {
    let mut server = Server::new(url);
    server.description = Some(description.to_owned());
    server
}

/// Routes that one layer guards. The layer's security and errors are not repeated at each route.
#[derive(Debug, Clone)]
pub struct Group {
    /// The tag of the operations.
    pub tag: &'static str,
    /// The scope that a key needs, if the routes need a key.
    pub scope: Option<&'static str>,
    /// The statuses of errors that each of the routes may have.
    pub errors: &'static [u16],
    /// The shape of the errors.
    pub shape: Shape,
    /// Whether browsers get a page in place of an error's JSON.
    pub has_pages: bool,
    /// Where the routes are served, if that is not the internal listener.
    pub server: Option<Listener>,
}

/// The statuses of errors of a route that takes a body.
const OF_BODIES: [u16; 3] = [408, 413, 415];

impl Group {
    /// Adds to the operations what they have in common.
    pub fn describe(&self, api: &mut OpenApi) {
        for operation in api.paths.paths.values_mut().flat_map(operations) {
            self.complete(operation);
        }
        let schemas = &mut api.components.get_or_insert_default().schemas;
        schemas.insert(ErrorBody::name().into_owned(), ErrorBody::schema());
        if self.shape == Shape::Problem {
            schemas.insert(Problem::name().into_owned(), Problem::schema());
        }
    }

    fn complete(&self, operation: &mut Operation) {
        operation.tags = Some(vec![self.tag.to_owned()]);
        operation.security = Some(match self.scope {
            Some(scope) => vec![
                SecurityRequirement::new(BEARER, [scope]),
                SecurityRequirement::new(API_KEY, [scope]),
            ],
            None => Vec::new(),
        });
        operation.servers = self.server.map(|listener| vec![server(listener)]);
        let of_body = match operation.request_body {
            Some(_) => OF_BODIES.as_slice(),
            None => &[],
        };
        let responses = &mut operation.responses.responses;
        for status in self.errors.iter().chain(of_body) {
            let response = responses.entry(status.to_string());
            response.or_insert_with(|| error(*status).into());
        }
        for (status, response) in responses {
            let is_error = status.starts_with(['4', '5']);
            if let (true, RefOr::T(response)) = (is_error, response) {
                self.complete_error(response);
            }
        }
    }

    /// The body of an error that has no other one.
    fn complete_error(&self, response: &mut Response) {
        if !response.content.is_empty() {
            return;
        }
        let (media_type, schema) = match self.shape {
            Shape::Ghl => ("application/json", ErrorBody::name()),
            Shape::Problem => (PROBLEM, Problem::name()),
            Shape::Page => ("text/html", String::name()),
        };
        let schema = Ref::from_schema_name(schema);
        let content = ContentBuilder::new().schema(Some(schema)).build();
        response
            .content
            .insert(media_type.to_owned(), content.into());
        if self.has_pages {
            let page = ContentBuilder::new().schema(Some(String::schema())).build();
            response.content.insert("text/html".to_owned(), page.into());
        }
    }
}

/// The description of an error with this status.
const fn meaning(status: u16) -> &'static str {
    match status {
        400 => "The request must change",
        401 => "No key was sent, or none that is known",
        403 => "The key may not do this, or the request comes from a foreign web page",
        404 => "There is no such thing",
        408 => "The body did not arrive in time",
        413 => "The body is too large",
        415 => "The body has another content type",
        429 => "Too many requests. `Retry-After` says when to send it again",
        500 => "A stored record cannot be read, or cannot be written",
        502 => "GHL or the broker could not be reached, or did not answer completely",
        503 => "Something is away or overloaded. `Retry-After` says when to send the request again",
        504 => "GHL or the broker did not answer in time",
        _ => "An error",
    }
}

fn error(status: u16) -> Response {
    let mut response = Response::new(meaning(status));
    if matches!(status, 429 | 503) {
        let mut seconds = Header::new(u64::schema());
        seconds.description = Some("Whole seconds".to_owned());
        response
            .headers
            .insert("Retry-After".to_owned(), seconds.into());
    }
    response
}

/// The operations of a path.
fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
        &mut item.options,
        &mut item.head,
        &mut item.patch,
        &mut item.trace,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use utoipa::openapi::HttpMethod;

    use super::*;

    fn described(shape: Shape) -> Value {
        let mut operation = Operation::new();
        let own = Response::new("It is taken");
        operation
            .responses
            .responses
            .insert("409".to_owned(), own.into());
        let mut api = OpenApi::default();
        let methods = vec![HttpMethod::Get];
        api.paths.add_path_operation("/v1/x", methods, operation);
        let group = Group {
            tag: "Things",
            scope: Some("admin"),
            errors: &[409, 503],
            shape,
            has_pages: false,
            server: None,
        };
        group.describe(&mut api);
        serde_json::to_value(&api).unwrap()
    }

    #[test]
    fn group_adds_security_and_errors_and_keeps_what_a_route_says() {
        let api = described(Shape::Problem);
        let operation = &api["paths"]["/v1/x"]["get"];
        assert_eq!(operation["tags"], json!(["Things"]));
        assert_eq!(operation["security"][0], json!({ "bearer": ["admin"] }));
        let responses = &operation["responses"];
        assert_eq!(responses["409"]["description"], "It is taken");
        assert!(responses["503"]["headers"]["Retry-After"].is_object());
        for status in ["409", "503"] {
            let schema = &responses[status]["content"][PROBLEM]["schema"];
            assert_eq!(schema["$ref"], "#/components/schemas/Problem", "{status}");
        }
        assert!(api["components"]["schemas"]["Problem"].is_object());
    }

    #[test]
    fn errors_of_ghls_shape_are_no_problems() {
        let api = described(Shape::Ghl);
        let content = &api["paths"]["/v1/x"]["get"]["responses"]["409"]["content"];
        assert!(content["application/json"].is_object() && content[PROBLEM].is_null());
        assert!(api["components"]["schemas"]["Problem"].is_null());
    }
}
