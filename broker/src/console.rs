//! The web console: pages for operators at `/console` of the internal listener.
//!
//! The server makes the pages. They work without JavaScript, which only refreshes numbers, copies links and shows local
//! times. `docs/console.md` is for operators.
//!
//! # How to add a page
//!
//! 1. Write `console/things.rs` with `pub(super) fn routes() -> Router<Console>`, and merge it in [`Broker::console`].
//!    Every route there is behind [`guard`]: a request without a session goes to the sign-in page, and a `POST` needs the
//!    proof of its form (CSRF) and a key with the scope `admin`. A handler checks neither.
//! 2. A handler takes a [`Viewer`], and `State<Broker>`. It returns [`render`] of a struct with
//!    `#[derive(askama::Template)]`, whose member `page` is `viewer.page("Title", Section::Things)`:
//!
//!    ```ignore
//!    #[derive(Template)]
//!    #[template(path = "console/things.html")]
//!    struct Things { page: Page, things: Vec<Row> }
//!
//!    async fn list(State(broker): State<Broker>, viewer: Viewer) -> Result<Response, Error> {
//!        let things = broker.0.writer.things().await?;
//!        Ok(render(&Things { page: viewer.page("Things", Section::Things), things }))
//!    }
//!    ```
//! 3. The template, `broker/templates/console/things.html`, begins with `{% extends "console/layout.html" %}` and fills
//!    `{% block content %}`. askama escapes each value. Do not use `|safe`. The policy of the pages (CSP) allows neither
//!    inline styles nor inline scripts: no `style=`, no `onclick=`. `broker/assets/console.css` has the classes.
//!    A table is in `<div class="scroll" role="region" aria-label="Things" tabindex="0">`, so that it can be scrolled by
//!    keyboard. With the class `cards` and `data-label` on its cells, its rows are cards on a narrow screen.
//! 4. Only `admin`: a page that shows or prepares a change takes [`Administrator`] instead of `Viewer`. Buttons are in
//!    `{% if page.is_admin() %}`. A key with `view` must see no secret.
//! 5. A form: `<form method="post" action="…">` and in it `{{ page.proof() }}`, a hidden field. The handler takes
//!    [`Fields`]: `fields.text("name")`, `fields.all("scope")`, `fields.has("force")`. A change that cannot be undone is
//!    asked for on a page of its own first, as `console/key_revoke.html`.
//! 6. After a change: `Ok(done("/console/things", "The thing was changed."))`. The next page shows the notice once.
//!    `problem(path, text)` is the same for what did not work. An [`Error`](crate::api::error::Error) that a handler
//!    returns becomes a page with its message and its hint.
//! 7. Times: a member of type [`Time`], made with `Time::from(timestamp)`, in the template as any other value.
//! 8. Changes are in the audit log: `viewer.requester.entry(now, Action::…)`, as in the handlers of the API. Share the
//!    core with them rather than repeating it (`api/admin/keys.rs` is an example).
//! 9. JavaScript adds: `data-refresh="30"` on an element with an `id` loads it again each 30 seconds.
//!    `data-copy="text"` on a `<button hidden>` copies the text.

mod apps;
mod assets;
mod audit;
mod connect;
mod events;
mod fields;
mod guard;
mod installations;
mod keys;
pub(crate) mod link;
mod next;
mod notice;
mod overview;
mod page;
mod prose;
mod session;
mod sign_in;
mod time;
mod viewer;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::FromRef;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Redirect;
use axum::routing::{any, get};
use http::Uri;
use http::request::Parts;
use secrecy::SecretString;
use service::handler::Peer;
use service::origin::OwnHosts;
use service::rate_limit::{AddressLimits, Rate};
use store::KeyHash;
use store_writer::WriteError;

use crate::Broker;
use crate::api::error::{Error, ErrorKind};
use crate::api::{method_not_allowed, span};

pub(crate) use self::{
    fields::Fields,
    notice::{done, problem},
    page::{Page, Section, render},
    time::Time,
    viewer::{Administrator, Viewer},
};

/// How often one address may try to sign in.
const ATTEMPTS: u32 = 10;
const ATTEMPTS_INTERVAL: Duration = Duration::from_secs(60);
/// All addresses together may try as many times as often as one.
const ATTEMPTS_ADDRESSES: u32 = 10;

/// The state of the console's routes. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Console(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    broker: Broker,
    own_hosts: OwnHosts,
    /// The key of this machine's administrator.
    local_admin: KeyHash,
    has_tls: bool,
    attempts: AddressLimits,
}

impl FromRef<Console> for Broker {
    fn from_ref(console: &Console) -> Self {
        console.0.broker.clone()
    }
}

impl Console {
    /// The address of a request, as far as it can be believed.
    fn address(&self, parts: &Parts) -> IpAddr {
        let proxies = &self.0.broker.0.config.trusted_proxies;
        proxies.client(Peer::of(&parts.extensions), &parts.headers)
    }

    /// Whether the browser uses https, as far as it can be told.
    fn is_secure(&self, parts: &Parts) -> bool {
        let proxies = &self.0.broker.0.config.trusted_proxies;
        let scheme = parts.headers.get("x-forwarded-proto");
        self.0.has_tls
            || (proxies.contains(Peer::of(&parts.extensions))
                && scheme.is_some_and(|scheme| scheme == "https"))
    }
}

impl Broker {
    /// A one-time link to sign in as the owner of this key: its path on the internal listener. It works for 15 minutes.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub async fn console_link(&self, key: &KeyHash) -> Result<SecretString, WriteError> {
        let broker = &self.0;
        let made = link::create(&broker.writer, key, broker.reader.now());
        Ok(made.await?.path)
    }

    /// The console. `own_hosts`: the names of the listener. `local_admin`: the key of this machine's administrator.
    /// `has_tls`: whether the listener speaks TLS.
    pub fn console(&self, own_hosts: OwnHosts, local_admin: KeyHash, has_tls: bool) -> Router {
        let rate = Rate::new(ATTEMPTS, ATTEMPTS_INTERVAL);
        let console = Console(Arc::new(Inner {
            broker: self.clone(),
            own_hosts,
            local_admin,
            has_tls,
            attempts: AddressLimits::new(rate, rate.times(ATTEMPTS_ADDRESSES)),
        }));
        let pages = Router::new()
            .merge(overview::routes())
            .merge(installations::routes())
            .merge(connect::routes())
            .merge(events::routes())
            .merge(keys::routes())
            .merge(apps::routes())
            .merge(audit::routes())
            .merge(sign_in::of_session())
            .route("/console/{*rest}", any(no_such_page))
            .method_not_allowed_fallback(method_not_allowed)
            .layer(from_fn_with_state(console.clone(), guard::guard));
        let open = Router::new()
            .merge(sign_in::routes())
            .merge(assets::routes())
            .method_not_allowed_fallback(method_not_allowed)
            .layer(from_fn_with_state(console.clone(), guard::open));
        pages
            .merge(open)
            .route("/", get(async || Redirect::to(ROOT)))
            .route("/console/", get(async || Redirect::to(ROOT)))
            .layer(from_fn(span::traced))
            .with_state(console)
    }
}

/// The first page.
pub(crate) const ROOT: &str = "/console";

async fn no_such_page(uri: Uri) -> Error {
    let message = format!("There is no page {}", uri.path());
    Error::new(ErrorKind::RouteNotFound, message)
}
