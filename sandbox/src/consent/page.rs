//! The HTML of the consent page: forms and no scripts.

use std::fmt::Write;

use axum::response::Response;

use super::request::AuthorizationRequest;
use crate::app::App;
use crate::directory::{COMPANY, LOCATIONS};
use crate::fields::Fields;
use crate::html::{escape, page};
use crate::subject::is_id;

/// The fields that the forms set themselves. They are not repeated from the query.
const CHOICES: [&str; 6] = [
    "locationId",
    "companyId",
    "locations",
    "all",
    "future",
    "deny",
];

/// The most locations of an agency that the page lists.
const MAX_LISTED: usize = 200;

pub(super) fn render(app: &App, request: &AuthorizationRequest, query: &Fields) -> Response {
    let app_name = escape(&request.client);
    let back = escape(request.redirect_uri.as_str());
    let kept = kept(query);
    let mut body = format!(
        "<p><strong>{app_name}</strong> asks for access. \
         Choose what it is installed on; you then go back to <code>{back}</code>.</p>\
         <p class=\"quiet\">This is a sandbox in place of GoHighLevel: nothing here is real.</p>\
         <h2 id=\"locations\">Locations</h2><ul class=\"cards\" aria-labelledby=\"locations\">"
    );
    for (id, name, city) in LOCATIONS {
        card(&mut body, &kept, ("locationId", id), name, city);
    }
    body.push_str("</ul>");
    agency(&mut body, &kept, app, query);
    let _ = write!(
        body,
        "<h2>Any other location</h2><div class=\"card\"><form method=\"post\">{kept}\
         <label>Location id<input type=\"text\" name=\"locationId\" required maxlength=\"64\" \
         pattern=\"[A-Za-z0-9_\\-]+\" autocomplete=\"off\"></label>\
         <button>Install</button></form></div><h2>What the app may do</h2><ul>"
    );
    for scope in request.scope.split_whitespace() {
        let _ = write!(body, "<li><code>{}</code></li>", escape(scope));
    }
    let _ = write!(
        body,
        "</ul><form method=\"post\">{kept}<input type=\"hidden\" name=\"deny\" value=\"1\">\
         <button class=\"plain\">Cancel</button></form>"
    );
    page("Install an app", &body)
}

/// The form for an agency user: which locations get the app.
fn agency(body: &mut String, kept: &str, app: &App, query: &Fields) {
    let company = query
        .get("companyId")
        .filter(|id| is_id(id))
        .unwrap_or(COMPANY);
    let world = app.world();
    let name = escape(&world.directory.company_name(company));
    let _ = write!(
        body,
        "<h2 id=\"agency\">An agency</h2><div class=\"card\">\
         <form method=\"post\" aria-labelledby=\"agency\">{kept}\
         <input type=\"hidden\" name=\"companyId\" value=\"{company}\">\
         <p><strong>{name}</strong><br><code class=\"quiet\">{company}</code></p>\
         <input type=\"hidden\" name=\"all\" value=\"false\">\
         <label><input type=\"checkbox\" name=\"all\" value=\"true\" checked> All locations</label>"
    );
    for location in world.directory.of_company(company).take(MAX_LISTED) {
        let _ = write!(
            body,
            "<label><input type=\"checkbox\" name=\"locations\" value=\"{}\"> {}</label>",
            location.id,
            escape(&location.name)
        );
    }
    let more = world.directory.count(company).saturating_sub(MAX_LISTED);
    if more > 0 {
        let _ = write!(body, "<p class=\"quiet\">and {more} more</p>");
    }
    let _ = write!(
        body,
        "<input type=\"hidden\" name=\"future\" value=\"false\">\
         <label><input type=\"checkbox\" name=\"future\" value=\"true\" checked> \
         Also future locations</label>\
         <button aria-label=\"Install on {name}\">Install</button></form></div>"
    );
}

fn card(body: &mut String, kept: &str, (field, id): (&str, &str), name: &str, place: &str) {
    let name = escape(name);
    let _ = write!(
        body,
        "<li class=\"card\"><form method=\"post\">{kept}\
         <input type=\"hidden\" name=\"{field}\" value=\"{id}\">\
         <p><strong>{name}</strong>, {place}<br><code class=\"quiet\">{id}</code></p>\
         <button aria-label=\"Install on {name}\">Install</button></form></li>"
    );
}

/// The fields of the query as hidden inputs.
fn kept(query: &Fields) -> String {
    let mut pairs: Vec<_> = query
        .iter()
        .filter(|(name, _)| !CHOICES.contains(name))
        .collect();
    pairs.sort_unstable();
    pairs
        .iter()
        .fold(String::new(), |mut inputs, (name, value)| {
            let _ = write!(
                inputs,
                "<input type=\"hidden\" name=\"{}\" value=\"{}\">",
                escape(name),
                escape(value)
            );
            inputs
        })
}
