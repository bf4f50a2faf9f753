//! The HTML pages for browsers: one layout, no scripts.

use axum::response::{Html, IntoResponse, Response};
use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY};
use http::{HeaderMap, HeaderValue, StatusCode, header::ACCEPT};
use url::Url;

/// Whether the client accepts HTML, as a browser does. Scripts get JSON.
pub(crate) fn accepts_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// The name and the logo that a page shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Brand {
    /// The name of the product.
    pub title: Option<String>,
    /// The address of its logo.
    pub logo: Option<Url>,
}

impl Brand {
    fn to_html(&self) -> String {
        let title = self.title.as_deref().map(escape).unwrap_or_default();
        let logo = self.logo.as_ref().map(|logo| {
            format!(
                "<img src=\"{}\" alt=\"\" height=\"48\">",
                escape(logo.as_str())
            )
        });
        match (title.is_empty(), logo) {
            (true, None) => String::new(),
            (_, logo) => format!("<p class=\"brand\">{}{title}</p>", logo.unwrap_or_default()),
        }
    }

    /// The origin of the logo, for the page's policy.
    fn policy(&self) -> String {
        let origin = self.logo.as_ref().map(|logo| logo.origin());
        let origin = origin.filter(url::Origin::is_tuple);
        origin
            .map(|origin| format!("; img-src {}", origin.ascii_serialization()))
            .unwrap_or_default()
    }
}

/// A page with a title and paragraphs. Every text is escaped.
pub(crate) fn render(
    status: StatusCode,
    brand: &Brand,
    title: &str,
    paragraphs: &[Paragraph<'_>],
) -> Response {
    let body: String = paragraphs.iter().map(Paragraph::to_html).collect();
    let title = escape(title);
    let of_whom = brand.to_html();
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>body{{font:1.1rem/1.6 system-ui,sans-serif;max-width:36rem;margin:12vh auto;\
         padding:0 1rem;color:#123;background:#fafcfa}}code{{background:#e8f0ea;padding:.15em .4em;\
         border-radius:.3em;overflow-wrap:anywhere}}a{{color:#0a6b3d}}\
         @media(prefers-color-scheme:dark){{body{{background:#101613;color:#dde}}\
         code{{background:#22302a}}a{{color:#6fd39d}}}}\
         .brand{{display:flex;gap:.7rem;align-items:center;font-weight:600}}</style>\
         <main>{of_whom}<h1>{title}</h1>{body}</main></html>"
    );
    let mut response = (status, Html(page)).into_response();
    let headers = response.headers_mut();
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'{}",
        brand.policy()
    );
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    // The URL of the page contains the authorization code.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

#[derive(Debug)]
pub(crate) enum Paragraph<'a> {
    Text(&'a str),
    /// A link's address and text.
    Link(&'a str, &'a str),
}

impl Paragraph<'_> {
    fn to_html(&self) -> String {
        match self {
            Self::Text(text) => format!("<p>{}</p>", escape(text)),
            Self::Link(address, text) => {
                format!(
                    "<p><a href=\"{}\">{}</a></p>",
                    escape(address),
                    escape(text)
                )
            }
        }
    }
}

pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_addresses_are_escaped() {
        let html = Paragraph::Link("/x?a=1&b=\"2\"", "<script>alert('&')</script>").to_html();
        assert_eq!(
            html,
            "<p><a href=\"/x?a=1&amp;b=&quot;2&quot;\">&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;</a></p>"
        );
    }
}
