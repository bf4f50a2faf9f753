//! The bodies of error responses: GHL's shape, and below `/v1` problem details (RFC 9457) besides.

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

/// The media type of [`Problem`].
pub const PROBLEM: &str = "application/problem+json";

/// An error in the shape of GHL's errors, so that GHL's SDKs can read it, with some members more.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ErrorBody {
    /// The HTTP status.
    #[serde(rename = "statusCode")]
    #[schema(example = 400)]
    pub status_code: u16,
    /// Stable, for programs. `docs/errors.md` lists all codes.
    #[schema(value_type = String, example = "installation_not_found")]
    pub code: &'static str,
    /// The message, for people. It may change.
    pub message: String,
    /// The HTTP status as text.
    #[schema(value_type = String, example = "Bad Request")]
    pub error: &'static str,
    /// The next step, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub hint: Option<&'static str>,
    /// The path on the public origin where the customer consents again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconnect: Option<String>,
    /// The installation that is to be connected again. It keeps its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installation_id: Option<String>,
    /// Which limit is used up: `interval`, `day` or `quota`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub limit: Option<&'static str>,
}

/// An error of a route below `/v1`: problem details (RFC 9457), and the members that errors of other routes have.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Stable, as `code`. It is a name, and not an address that can be opened.
    #[serde(rename = "type")]
    #[schema(example = "urn:evergreen:error:installation_not_found")]
    kind: String,
    /// The code in words. It is the same for each error of this type.
    #[schema(example = "Installation not found")]
    title: String,
    /// The HTTP status.
    status: u16,
    /// The same as `message`.
    detail: String,
    #[serde(flatten)]
    body: ErrorBody,
}

/// The shape of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// [`ErrorBody`], for programs that expect GHL's errors.
    Ghl,
    /// [`Problem`], for our own API.
    Problem,
    /// A page for customers, in a browser. It says only what they can do.
    Page,
}

impl Shape {
    /// The shape of the errors of a path.
    #[must_use]
    pub fn of(path: &str) -> Self {
        match path.starts_with("/v1/") {
            true => Self::Problem,
            false => Self::Ghl,
        }
    }
}

impl ErrorBody {
    /// `code`: one of `docs/errors.md`.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, message: String) -> Self {
        Self {
            status_code: status.as_u16(),
            code,
            message,
            error: status.canonical_reason().unwrap_or("Error"),
            hint: None,
            reconnect: None,
            installation_id: None,
            limit: None,
        }
    }

    /// The response, in the given shape.
    #[must_use]
    pub fn into_response(self, shape: Shape) -> Response<Body> {
        let status = StatusCode::from_u16(self.status_code);
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        self.write(&mut response, shape);
        response
    }

    /// Replaces the body of a response. Its other headers stay.
    pub fn write(self, response: &mut Response<Body>, shape: Shape) {
        let (media_type, body) = match shape {
            Shape::Ghl => ("application/json", serde_json::to_vec(&self)),
            Shape::Problem => (PROBLEM, serde_json::to_vec(&Problem::of(self))),
            Shape::Page => {
                let policy = HeaderValue::from_static(PAGE_POLICY);
                response
                    .headers_mut()
                    .insert(CONTENT_SECURITY_POLICY, policy);
                // Addresses of consents contain secrets.
                let referrers = HeaderValue::from_static("no-referrer");
                response.headers_mut().insert(REFERRER_POLICY, referrers);
                let no_store = HeaderValue::from_static("no-store");
                response.headers_mut().insert(CACHE_CONTROL, no_store);
                ("text/html; charset=utf-8", Ok(self.to_page().into_bytes()))
            }
        };
        // A map with text keys cannot fail to serialize.
        *response.body_mut() = Body::from(body.unwrap_or_default());
        let media_type = HeaderValue::from_static(media_type);
        response.headers_mut().insert(CONTENT_TYPE, media_type);
    }
}

const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

impl ErrorBody {
    /// The page for customers. It names nobody, and no cause: they cannot mend it.
    fn to_page(&self) -> String {
        let words = match self.status_code {
            429 | 500.. => "This could not be completed just now. Please try again in a moment.",
            _ => "This link does not work here. Please ask for a new one.",
        };
        format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <title>Not connected</title><style>body{{font:1.1rem/1.6 system-ui,sans-serif;max-width:36rem;\
             margin:12vh auto;padding:0 1rem;color:#123;background:#fafcfa}}\
             @media(prefers-color-scheme:dark){{body{{color:#dde;background:#101613}}}}</style></head>\
             <body><main><h1>Not connected</h1><p>{words}</p></main></body></html>"
        )
    }
}

impl Problem {
    fn of(body: ErrorBody) -> Self {
        Self {
            kind: format!("urn:evergreen:error:{}", body.code),
            title: in_words(body.code),
            status: body.status_code,
            detail: body.message.clone(),
            body,
        }
    }
}

/// `installation_not_found` as `Installation not found`.
fn in_words(code: &str) -> String {
    let words = code.replace('_', " ");
    let mut letters = words.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use serde_json::{Value, json};

    use super::*;

    async fn sent(shape: Shape) -> (String, Value) {
        let body = ErrorBody {
            hint: Some("look again"),
            ..ErrorBody::new(StatusCode::NOT_FOUND, "key_not_found", "No key".to_owned())
        };
        let response = body.into_response(shape);
        assert_eq!(response.status(), 404);
        let media_type = response.headers()[CONTENT_TYPE].to_str().unwrap();
        let media_type = media_type.to_owned();
        let body = to_bytes(response.into_body(), 1000).await.unwrap();
        (media_type, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn problem_has_the_members_of_rfc_9457_and_of_other_errors() {
        let mut expected = json!({
            "statusCode": 404, "code": "key_not_found", "message": "No key", "error": "Not Found", "hint": "look again",
        });
        let (media_type, body) = sent(Shape::Ghl).await;
        assert_eq!(
            (media_type.as_str(), &body),
            ("application/json", &expected)
        );
        for (name, value) in [
            ("type", json!("urn:evergreen:error:key_not_found")),
            ("title", json!("Key not found")),
            ("status", json!(404)),
            ("detail", json!("No key")),
        ] {
            expected[name] = value;
        }
        let (media_type, body) = sent(Shape::Problem).await;
        assert_eq!((media_type.as_str(), body), (PROBLEM, expected));
    }

    #[tokio::test]
    async fn page_for_customers_says_what_to_do_and_no_cause() {
        for (status, words) in [
            (StatusCode::SERVICE_UNAVAILABLE, "in a moment"),
            (StatusCode::FORBIDDEN, "ask for a new one"),
        ] {
            let body = ErrorBody::new(status, "cause_of_it", "The broker is away".to_owned());
            let response = body.into_response(Shape::Page);
            assert_eq!(response.status(), status);
            let policy = response.headers()[CONTENT_SECURITY_POLICY].to_str();
            assert!(policy.unwrap().contains("default-src 'none'"));
            let body = to_bytes(response.into_body(), 10_000).await.unwrap();
            let page = String::from_utf8(body.to_vec()).unwrap();
            assert!(page.contains(words), "{page}");
            assert!(!page.contains("broker") && !page.contains("cause_of_it"));
        }
    }

    #[test]
    fn only_routes_below_v1_have_problems() {
        assert_eq!(Shape::of("/v1/keys"), Shape::Problem);
        for path in ["/ghl/v1/keys", "/v10/keys", "/v1", "/api/oauth/status"] {
            assert_eq!(Shape::of(path), Shape::Ghl, "{path}");
        }
    }
}
