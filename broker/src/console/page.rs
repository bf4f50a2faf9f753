//! The frame of the pages, and what all responses of the console have in common.

use askama::Template;
use askama::filters::HtmlSafe;
use axum::response::{Html, IntoResponse, Response};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderValue, StatusCode};
use service::error_body::ErrorBody;
use std::fmt;
use tracing::error;

use super::assets::{self, Assets};
use super::notice::Notice;
use super::viewer::Viewer;

/// Nothing from elsewhere, nothing inline, no frame around it, and forms only to here.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The headers of every response of the console. `Cache-Control` unless the response has one.
///
/// Not `Referrer-Policy: no-referrer`: browsers would then send `Origin: null` with our own forms, as foreign pages can.
const HEADERS: [(HeaderName, &str); 6] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "same-origin"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// A part of the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Overview,
    Installations,
    Connect,
    Apps,
    Keys,
    Events,
    Audit,
}

impl Section {
    const ALL: [Self; 7] = [
        Self::Overview,
        Self::Installations,
        Self::Connect,
        Self::Apps,
        Self::Keys,
        Self::Events,
        Self::Audit,
    ];

    const fn path(self) -> &'static str {
        match self {
            Self::Overview => super::ROOT,
            Self::Installations => "/console/installations",
            Self::Connect => "/console/connect",
            Self::Apps => "/console/apps",
            Self::Keys => "/console/keys",
            Self::Events => "/console/events",
            Self::Audit => "/console/audit",
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Installations => "Installations",
            Self::Connect => "Connect a customer",
            Self::Apps => "Apps",
            Self::Keys => "Keys",
            Self::Events => "Events",
            Self::Audit => "Audit",
        }
    }

    /// Whether its pages are only for the scope `admin`.
    const fn is_for_admin(self) -> bool {
        matches!(self, Self::Connect)
    }
}

/// The frame of a page: its title, the navigation and the session. A template has it as its member `page`.
#[derive(Debug)]
pub(crate) struct Page {
    pub(super) title: String,
    section: Section,
    pub(super) viewer: Viewer,
}

/// A link of the navigation.
pub(super) struct NavLink {
    pub(super) path: &'static str,
    pub(super) label: &'static str,
    pub(super) is_current: bool,
}

/// The hidden field of a form. Its characters are those of base64 and of the id of a sealing key.
pub(crate) struct Proof<'a>(&'a str);

impl fmt::Display for Proof<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(proof) = self;
        write!(f, "<input type=\"hidden\" name=\"csrf\" value=\"{proof}\">")
    }
}

impl HtmlSafe for Proof<'_> {}

impl Page {
    pub(super) fn new(title: String, section: Section, viewer: Viewer) -> Self {
        Self {
            title,
            section,
            viewer,
        }
    }

    /// Whether changes are offered.
    pub(crate) fn is_admin(&self) -> bool {
        self.viewer.is_admin
    }

    /// The hidden field with which a form is taken for one of this session.
    pub(crate) fn proof(&self) -> Proof<'_> {
        Proof(&self.viewer.proof)
    }

    pub(super) fn navigation(&self) -> impl Iterator<Item = NavLink> {
        let sections = Section::ALL.into_iter();
        let sections = sections.filter(|it| self.viewer.is_admin || !it.is_for_admin());
        sections.map(|it| NavLink {
            path: it.path(),
            label: it.label(),
            is_current: it == self.section,
        })
    }

    pub(super) fn notice(&self) -> Option<&Notice> {
        self.viewer.notice.as_ref()
    }

    #[expect(clippy::unused_self, reason = "templates call it")]
    pub(super) fn assets(&self) -> &'static Assets {
        assets::all()
    }
}

/// The page of a template.
pub(crate) fn render(template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            error!(
                error = &error as &dyn std::error::Error,
                "a page of the console cannot be written"
            );
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[derive(Template)]
#[template(path = "console/error.html")]
struct ErrorPage<'a> {
    page: Page,
    body: &'a ErrorBody,
}

/// The page of an error for somebody who has signed in.
pub(super) fn of_error(viewer: &Viewer, section: Section, body: &ErrorBody) -> Response {
    let page = viewer.page(body.error, section);
    let mut response = render(&ErrorPage { page, body });
    *response.status_mut() = StatusCode::from_u16(body.status_code).unwrap_or_default();
    response
}

/// The section of a path.
pub(super) fn section_of(path: &str) -> Section {
    let sections = Section::ALL.into_iter().rev();
    let is_below = |it: &Section| path.strip_prefix(it.path()).is_some();
    sections
        .into_iter()
        .find(is_below)
        .unwrap_or(Section::Overview)
}

/// The response with the headers that all have.
pub(super) fn secured(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_of_the_section_that_it_is_below() {
        for (path, section) in [
            ("/console", Section::Overview),
            ("/console/keys", Section::Keys),
            ("/console/keys/0123/revoke", Section::Keys),
            ("/console/unknown", Section::Overview),
        ] {
            assert_eq!(section_of(path), section);
        }
    }
}
