//! Authentication for `/metrics` beyond loopback.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use service::credentials::presented;
use service::locks::lock;
use store::{KeyHash, TokenReader};

/// Requires a live caller key for `routes`, except for `/livez` and `/readyz`. `used`: notes its use.
pub(crate) fn require_key(routes: Router, reader: TokenReader, used: KeyUsed) -> Router {
    let guard = Guard {
        reader,
        used,
        known: Arc::default(),
    };
    routes.layer(from_fn_with_state(guard, check))
}

/// Notes that a key was used.
pub(crate) type KeyUsed = Arc<dyn Fn(&KeyHash) + Send + Sync>;

#[derive(Clone)]
struct Guard {
    reader: TokenReader,
    used: KeyUsed,
    /// Keys that were live at their last check. They stay valid while the store is unreachable, when metrics
    /// matter most.
    known: Arc<Mutex<HashSet<KeyHash>>>,
}

async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let is_open = matches!(request.uri().path(), "/livez" | "/readyz");
    let key = presented(request.headers()).map(KeyHash::of);
    if is_open || guard.admits(key).await {
        return next.run(request).await;
    }
    let message = "a caller's key is needed: Authorization: Bearer <key>\n";
    (StatusCode::UNAUTHORIZED, message).into_response()
}

impl Guard {
    async fn admits(&self, key: Option<KeyHash>) -> bool {
        let Some(key) = key else {
            return false;
        };
        let found = self.reader.caller(&key).await;
        let mut known = lock(&self.known);
        match found {
            Ok(Some(caller)) if caller.is_live(self.reader.now()) => {
                known.insert(key);
                (self.used)(&key);
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
