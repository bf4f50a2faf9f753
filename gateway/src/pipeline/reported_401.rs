//! 401 responses of GHL to callers that call it directly. They report the token that was refused.

use std::sync::Arc;

use http::Method;
use store::Status;

use super::Pipeline;
use crate::token::provider::TokenError;
use crate::token::sources::Token;

/// Stands for all calls that a caller makes by itself. No path of GHL is the same, since they begin with a slash.
const REPORTED: &str = "reported";

impl Pipeline {
    /// A newer token than the current one, which GHL refused. `None` if a refresh is of no use: the token has none, or
    /// it is itself fresh from a refresh after a 401. So a call that GHL always refuses spends no refresh token each
    /// time, as with calls that the gateway sends.
    pub(crate) async fn newer_than_refused(
        &self,
        current: &Token,
    ) -> Option<Result<Arc<Token>, TokenError>> {
        let known = &self.persistent_401s;
        if current.status == Status::Static || known.has(current, &Method::GET, REPORTED, "") {
            return None;
        }
        // Boxed, since it is rare and would make the future of every request larger.
        let fresh = Box::pin(self.tokens.newer_than(current, 0)).await;
        if let Ok(fresh) = &fresh {
            // If it does not help either, the next report changes nothing.
            known.note(fresh, &Method::GET, REPORTED, "");
        }
        Some(fresh)
    }
}
