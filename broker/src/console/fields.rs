//! The fields of a form.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use url::form_urlencoded;

use crate::api::error::Error;

/// The fields of the form that was sent. Empty if there was none.
#[derive(Clone, Default)]
pub(crate) struct Fields(Arc<[(String, String)]>);

impl Fields {
    pub(super) fn parse(body: &[u8]) -> Self {
        Self(form_urlencoded::parse(body).into_owned().collect())
    }

    /// A field without the space around it. `None` if it is absent or empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The values of a field that occurs several times, such as of checkboxes.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.0.iter().filter(move |(its, _)| its == name);
        named
            .map(|(_, value)| value.trim())
            .filter(|value| !value.is_empty())
    }

    /// Whether a checkbox is checked.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.text(name).is_some()
    }
}

impl<S: Sync> FromRequestParts<S> for Fields {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_trimmed_and_empty_ones_are_absent() {
        let fields = Fields::parse(b"name=+crm+&scope=proxy&scope=tokens&app=&quota=%20&force=on");
        assert_eq!(fields.text("name"), Some("crm"));
        let scopes: Vec<&str> = fields.all("scope").collect();
        assert_eq!(scopes, ["proxy", "tokens"]);
        for absent in ["app", "quota", "other"] {
            assert_eq!(fields.text(absent), None);
        }
        assert!(fields.has("force") && !fields.has("app"));
    }
}
