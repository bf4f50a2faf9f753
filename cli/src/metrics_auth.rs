//! Authentication for `/metrics` beyond loopback.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use store::{KeyHash, TokenReader};

/// Requires a live caller key for `routes`, except for `/livez` and `/readyz`.
pub(crate) fn require_key(routes: Router, reader: TokenReader) -> Router {
    let guard = Guard {
        reader,
        known: Arc::default(),
    };
    routes.layer(from_fn_with_state(guard, check))
}

#[derive(Clone)]
struct Guard {
    reader: TokenReader,
    /// Keys that were live at their last check. They stay valid while the store is unreachable, when metrics
    /// matter most.
    known: Arc<Mutex<HashSet<KeyHash>>>,
}

async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let is_open = matches!(request.uri().path(), "/livez" | "/readyz");
    let bearer = request.headers().get(AUTHORIZATION).cloned();
    if is_open || guard.admits(bearer.as_ref()).await {
        return next.run(request).await;
    }
    let message = "a caller's key is needed: Authorization: Bearer <key>\n";
    (StatusCode::UNAUTHORIZED, message).into_response()
}

impl Guard {
    async fn admits(&self, bearer: Option<&HeaderValue>) -> bool {
        let key = bearer
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        let Some(key) = key.map(KeyHash::of) else {
            return false;
        };
        let found = self.reader.caller(&key).await;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match found {
            Ok(Some(caller)) if caller.is_live(self.reader.now()) => {
                known.insert(key);
                true
            }
            Ok(_) => {
                known.remove(&key);
                false
            }
            Err(_) => known.contains(&key),
        }
    }
}
