//! HTML: the page layout, and escaping.

use axum::response::{Html, IntoResponse, Response};
use http::header::CONTENT_SECURITY_POLICY;

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1c2b26;--paper:#f6f8f5;--card:#fff;--line:#d5ddd8;--leaf:#1d6b4a;--on:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#e4ece8;--paper:#131a17;--card:#1b2420;--line:#33413b;--leaf:#7fd0a9;--on:#10231a}}
*{box-sizing:border-box}
body{margin:0;font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper)}
main{max-width:42rem;margin:0 auto;padding:2rem 1rem 4rem}
h1{font-size:1.6rem;line-height:1.2;margin:0 0 .5rem}
h2{font-size:1.1rem;margin:2rem 0 .5rem}
a{color:var(--leaf)}
code{font:.9em ui-monospace,monospace;overflow-wrap:anywhere}
ul{padding-left:1.2rem}
.cards{list-style:none;padding:0;display:grid;gap:.75rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.9rem 1rem}
.card form{display:flex;flex-wrap:wrap;gap:.75rem;align-items:center;justify-content:space-between}
.card p{margin:0}
.quiet{opacity:.75;font-size:.9rem}
input[type=text]{font:inherit;padding:.5rem .6rem;border:1px solid var(--line);border-radius:.4rem;background:var(--paper);color:inherit;width:100%}
label{flex:1 1 14rem}
button{font:inherit;font-weight:600;padding:.55rem 1.1rem;border:1px solid var(--leaf);border-radius:.4rem;background:var(--leaf);color:var(--on);cursor:pointer}
button.plain{background:transparent;color:var(--leaf)}
:focus-visible{outline:3px solid var(--leaf);outline-offset:2px}
";

/// A page. `title` is escaped here, `body` is HTML.
pub(crate) fn page(title: &str, body: &str) -> Response {
    let title = escape(title);
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head>\
         <body><main><h1>{title}</h1>{body}</main></body></html>"
    );
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";
    ([(CONTENT_SECURITY_POLICY, policy)], Html(html)).into_response()
}

/// Escapes text for HTML, also for quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
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
    fn attribute_values_are_escaped() {
        assert_eq!(
            escape(r#""><script>'&"#),
            "&quot;&gt;&lt;script&gt;&#39;&amp;"
        );
    }
}
