//! The operations of GHL's API: which kind of token each one takes, and where it names its location or company.
//!
//! The table is `ghl/data/operations.tsv`. An operation that is not in it can still exist, since GHL adds new ones.

mod segments;
mod table;

use std::sync::LazyLock;

use http::Method;

pub use segments::Segments;
use table::Node;

/// The kind of token that an operation takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A location's token.
    Location,
    /// A company's token. GHL calls it an agency's.
    Company,
    /// One of the two, or GHL's documents do not say which.
    Either,
}

/// One operation of GHL's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// As in GHL's documents, such as `/contacts/{contactId}`.
    pub path: &'static str,
    /// The kind of token that it takes.
    pub token: TokenKind,
    /// The scopes of the token, if the documents say them.
    pub scopes: Vec<&'static str>,
    /// The places that can name a location.
    pub location: Places,
    /// The places that can name a company.
    pub company: Places,
}

/// The places of a request that can name one owner of a token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// The index of the path's segment.
    pub segment: Option<usize>,
    /// Names of query parameters. `altId` names a location, unless `altType` is `company`.
    pub query: Vec<&'static str>,
    /// Names of the body's top-level fields: in JSON, in a form, or in a multipart form. `altId` as in the query.
    pub body: Vec<&'static str>,
}

impl Places {
    /// The segment of this path that names the owner, with its percent encoding.
    #[must_use]
    pub fn in_path<'p>(&self, path: &'p str) -> Option<&'p str> {
        Segments::of(path).nth(self.segment?)
    }
}

static OPERATIONS: LazyLock<Node> = LazyLock::new(|| table::parse(table::TSV));

/// The operation that GHL carries out for this method and path. It allocates nothing.
///
/// A literal segment is preferred to a parameter, from left to right: `/contacts/search` is not a contact. `HEAD`
/// counts as `GET`. Empty segments and a slash at the end do not matter. Percent encoding and upper case do not hide
/// an operation, since servers and proxies differ in whether they decode a path before they choose its route.
#[must_use]
pub fn find(method: &Method, path: &str) -> Option<&'static Operation> {
    let method = if method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    OPERATIONS.find(method, Segments::of(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(method: &str, path: &str) -> &'static Operation {
        let method = method.parse().unwrap();
        find(&method, path).unwrap_or_else(|| panic!("{method} {path}"))
    }

    #[test]
    fn operation_says_its_token_scopes_and_places() {
        let tags = operation("GET", "/locations/L/tags");
        assert_eq!(tags.token, TokenKind::Either);
        assert_eq!(tags.scopes, ["locations/tags.readonly"]);
        assert_eq!(tags.location.in_path("/locations/L/tags"), Some("L"));

        let update = operation("PUT", "/locations/L");
        assert_eq!(update.token, TokenKind::Company);
        assert_eq!(update.location.segment, Some(1));
        assert_eq!(update.company.body, ["companyId"]);

        let upload = operation("POST", "/medias/upload-file");
        assert_eq!(upload.token, TokenKind::Location);
        assert_eq!(upload.location, Places::default());

        let products = operation("GET", "/products/");
        assert_eq!(products.location.query, ["locationId"]);
    }

    #[test]
    fn owner_is_found_in_any_segment() {
        let path = "/social-media-posting/oauth/L/twitter/accounts/A";
        let place = &operation("GET", path).location;
        assert_eq!((place.segment, place.in_path(path)), (Some(2), Some("L")));
        let path = "//saas-api/public-api/agency-plans/C/";
        let place = &operation("GET", path).company;
        assert_eq!(place.in_path(path), Some("C"));
        assert_eq!(place.in_path("/saas-api"), None);
        assert_eq!(Places::default().in_path(path), None);
    }

    #[test]
    fn literal_segments_are_preferred_to_parameters() {
        for (method, path, expected) in [
            ("GET", "/locations/search", "/locations/search"),
            ("GET", "/locations/L", "/locations/{locationId}"),
            ("GET", "/users/search", "/users/search"),
            (
                "GET",
                "/calendars/resources/free-slots",
                "/calendars/resources/{resourceType}",
            ),
            (
                "GET",
                "/social-media-posting/oauth/tiktok/start",
                "/social-media-posting/oauth/tiktok/start",
            ),
            (
                "DELETE",
                "/contacts/C/campaigns/removeAll",
                "/contacts/{contactId}/campaigns/removeAll",
            ),
        ] {
            assert_eq!(operation(method, path).path, expected);
        }
    }

    #[test]
    fn parameter_is_tried_if_the_literal_leads_nowhere() {
        for (method, path, expected) in [
            (
                "GET",
                "/calendars/resources/notifications/N",
                "/calendars/resources/{resourceType}/{id}",
            ),
            (
                "POST",
                "/calendars/events/notifications",
                "/calendars/{calendarId}/notifications",
            ),
            (
                "POST",
                "/social-media-posting/oauth/posts",
                "/social-media-posting/{locationId}/posts",
            ),
            ("DELETE", "/products/inventory", "/products/{productId}"),
        ] {
            assert_eq!(operation(method, path).path, expected);
        }
    }

    #[test]
    fn spelling_of_a_path_does_not_hide_its_operation() {
        let expected = operation("GET", "/contacts/C");
        for path in [
            "/contacts/C/",
            "//contacts//C",
            "/./contacts/%2e/C",
            "/%63ontacts/C",
            "/Contacts/C",
            "/contacts%2FC",
            "/contacts%2fC%2F",
            "contacts/C",
        ] {
            assert_eq!(operation("GET", path), expected, "{path}");
            assert_eq!(operation("HEAD", path), expected, "{path}");
        }
    }

    #[test]
    fn unknown_operations_are_not_found() {
        for (method, path) in [
            ("GET", ""),
            ("GET", "/"),
            ("GET", "/contact"),
            ("GET", "/contacts/C/unknown"),
            ("GET", "/contacts/C/notes/N/more"),
            ("GET", "/%ff"),
            ("PATCH", "/contacts/C"),
            ("OPTIONS", "/contacts/"),
        ] {
            let method: Method = method.parse().unwrap();
            assert_eq!(find(&method, path), None, "{method} {path}");
        }
    }
}
