//! The span of a request that a gateway answers.

use std::borrow::Cow;

use axum::extract::{MatchedPath, Request};
use ghl::operations;
use service::trace;
use tracing::Span;

use crate::access_log::path::loggable;
use crate::metrics::Route;

/// A part of the caller's trace. Disabled for health checks.
pub(super) fn span_of(route: Route, request: &Request) -> Span {
    if route == Route::Health {
        return Span::none();
    }
    let path = loggable(request.uri().path());
    // Before anything is formatted: nearly always spans are not exported.
    let template = trace::is_exporting().then(|| template(route, request));
    trace::server_span(request, template.flatten().as_deref(), Some(&path))
}

/// The route as it was declared. Of a call to GHL, that of GHL's operation.
fn template(route: Route, request: &Request) -> Option<Cow<'_, str>> {
    match route {
        Route::Ghl => {
            let path = request.uri().path();
            let path = path.strip_prefix("/ghl").unwrap_or(path);
            let template = operations::find(request.method(), path).map(|known| known.path);
            Some(format!("/ghl{}", template.unwrap_or("/{*path}")).into())
        }
        Route::Health | Route::Preflight | Route::Unknown => None,
        Route::TestConnection
        | Route::Products
        | Route::CreateProduct
        | Route::CreateContact
        | Route::TestProduct
        | Route::UploadFile
        | Route::Mcp
        | Route::Broker
        | Route::Token => {
            let matched = request.extensions().get::<MatchedPath>();
            matched.map(|matched| matched.as_str().into())
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn call_to_ghl_has_the_template_of_its_operation() {
        for (path, expected) in [
            ("/ghl/contacts/8hT2", Some("/ghl/contacts/{contactId}")),
            ("/ghl/unheard/of/8hT2", Some("/ghl/{*path}")),
        ] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            assert_eq!(template(Route::Ghl, &request).as_deref(), expected);
        }
    }
}
