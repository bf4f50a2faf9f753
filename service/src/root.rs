//! The page at `/` of a public listener: what this is and whether it is well, and nothing else.

use axum::Json;
use axum::response::{Html, IntoResponse, Response};
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName};
use serde::Serialize;
use utoipa::ToSchema;

const HEADERS: [(HeaderName, &str); 4] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
];

/// The answer for programs.
#[derive(Debug, Serialize, ToSchema)]
pub struct Root {
    /// `evergreen`
    #[schema(value_type = String)]
    service: &'static str,
    /// `ok`, or `not_ready`.
    #[schema(value_type = String)]
    status: &'static str,
}

/// The page for browsers, and a small object for others. `is_well`: whether the process can do its work. Strangers see the
/// page, so it says no more.
#[must_use]
pub fn page(headers: &HeaderMap, is_well: bool) -> Response {
    let body = match accepts_html(headers) {
        true => Html(html(is_well)).into_response(),
        false => {
            let status = if is_well { "ok" } else { "not_ready" };
            let service = "evergreen";
            Json(Root { service, status }).into_response()
        }
    };
    (HEADERS, body).into_response()
}

/// Whether the client accepts HTML, as a browser does.
#[must_use]
pub fn accepts_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

fn html(is_well: bool) -> String {
    let state = match is_well {
        true => "It is well.",
        false => "It cannot do all of its work at the moment. It tries again by itself.",
    };
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"robots\" content=\"noindex\"><title>evergreen</title>\
         <style>body{{font:1.1rem/1.6 system-ui,sans-serif;max-width:36rem;margin:12vh auto;padding:0 1rem;\
         color:#17211b;background:#f7f9f7}}\
         @media(prefers-color-scheme:dark){{body{{color:#e4ebe6;background:#0f1512}}}}</style></head>\
         <body><main><h1>evergreen</h1>\
         <p>This service keeps the connections of apps to GoHighLevel alive.</p>\
         <p>{state}</p></main></body></html>"
    )
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    async fn body(accept: &str, is_well: bool) -> (String, String) {
        let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
        let response = page(&headers, is_well);
        let media_type = response.headers()["content-type"].to_str().unwrap();
        let media_type = media_type.to_owned();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (media_type, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn browsers_get_a_page_and_programs_an_object() {
        let (media_type, page) = body("text/html,*/*;q=0.8", true).await;
        assert!(media_type.starts_with("text/html") && page.contains("It is well."));
        let (_, page) = body("text/html", false).await;
        assert!(page.contains("cannot do all of its work"), "{page}");
        for (is_well, expected) in [(true, "ok"), (false, "not_ready")] {
            let (media_type, object) = body("*/*", is_well).await;
            assert_eq!(media_type, "application/json");
            let expected = format!(r#"{{"service":"evergreen","status":"{expected}"}}"#);
            assert_eq!(object, expected);
        }
    }
}
