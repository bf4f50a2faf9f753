//! The form that makes a one-time link for a customer.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use store::{Customer, ExternalId, LocationId, customer};

use super::installations::{LinkMade, tags_of};
use super::{Administrator, Console, Fields, Page, Section, Time, Viewer, render};
use crate::Broker;
use crate::api::connect::links::{self, Wanted};
use crate::api::error::Error;

const PATH: &str = "/console/connect";
/// How long a link works, in seconds, and in words. The first is chosen at first.
const LIVES: [(u64, &str); 4] = [
    (1_800, "30 minutes"),
    (86_400, "1 day"),
    (259_200, "3 days"),
    (604_800, "7 days"),
];

pub(super) fn routes() -> Router<Console> {
    Router::new().route(PATH, get(form).post(make))
}

#[derive(Template)]
#[template(path = "console/connect.html")]
struct Form {
    page: Page,
    /// Why no link was made. Empty at first.
    problem: String,
    apps: Vec<String>,
    chosen: String,
    external_id: String,
    tags: String,
    expires_in: String,
    lives: [(u64, &'static str); 4],
    return_to: String,
    location: String,
    is_white_label: bool,
}

/// The form with what the person has entered.
fn filled(broker: &Broker, viewer: &Viewer, fields: &Fields, problem: String) -> Response {
    let text = |name: &str| fields.text(name).unwrap_or_default().to_owned();
    let apps = broker.0.worker.apps.current();
    let unnamed = || apps.unnamed().map(|app| app.name.to_string());
    let chosen = fields.text("app").map(str::to_owned);
    render(&Form {
        page: viewer.page("Connect a customer", Section::Connect),
        problem,
        chosen: chosen.or_else(unnamed).unwrap_or_default(),
        apps: apps.apps.iter().map(|app| app.name.to_string()).collect(),
        external_id: text("external_id"),
        tags: text("tags"),
        expires_in: text("expires_in"),
        lives: LIVES,
        return_to: text("return_to"),
        location: text("location"),
        is_white_label: fields.has("white_label"),
    })
}

async fn form(State(broker): State<Broker>, Administrator(viewer): Administrator) -> Response {
    filled(&broker, &viewer, &Fields::default(), String::new())
}

async fn make(
    State(broker): State<Broker>,
    Administrator(viewer): Administrator,
    fields: Fields,
) -> Result<Response, Error> {
    let apps = broker.0.worker.apps.current();
    let made = match (wanted(&fields), apps.chosen(fields.text("app"), None)) {
        (Ok(wanted), Ok(app)) => links::make(&broker, &viewer.requester, app, wanted).await,
        (Err(reason), _) => Err(Error::invalid(reason)),
        (_, Err(no_app)) => Err(no_app.into()),
    };
    match made {
        Ok(made) => Ok(render(&LinkMade {
            page: viewer.page("Link for a customer", Section::Connect),
            expires_at: Time::parse(&made.expires_at),
            url: made.url,
            back: (PATH.to_owned(), "Make another link"),
        })),
        Err(error) if error.status().is_client_error() => {
            let hint = error.hint.map(|hint| format!(" To do: {hint}."));
            let problem = format!("{}.{}", error.message, hint.unwrap_or_default());
            let mut response = filled(&broker, &viewer, &fields, problem);
            *response.status_mut() = StatusCode::BAD_REQUEST;
            Ok(response)
        }
        Err(error) => Err(error),
    }
}

/// The link that the form asks for.
fn wanted(fields: &Fields) -> Result<Wanted, String> {
    let external_id = fields.text("external_id");
    let external_id = external_id.map(str::parse::<ExternalId>).transpose();
    let location = fields.text("location");
    let location = location.map(str::parse::<LocationId>).transpose();
    let expires_in = fields.text("expires_in").map(str::parse::<u64>).transpose();
    Ok(Wanted {
        customer: Customer {
            external_id: external_id.map_err(|error| error.to_string())?,
            tags: customer::parse_tags(tags_of(fields)).map_err(|error| error.to_string())?,
        },
        owner: location
            .map_err(|error| error.to_string())?
            .map(String::from),
        return_to: fields.text("return_to").map(str::to_owned),
        is_white_label: fields.has("white_label"),
        expires_in: expires_in.map_err(|_| "choose how long the link works".to_owned())?,
        replaces: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_becomes_a_link_that_is_wanted() {
        let body = b"external_id=+org/7+&tags=vip%0D%0Agr%C3%B6%C3%9Fe+2,trial&expires_in=1800&return_to=&location=L\
                     &white_label=yes";
        let wanted = wanted(&Fields::parse(body)).unwrap();
        let tags: Vec<&str> = wanted.customer.tags.iter().map(|it| it.as_str()).collect();
        assert_eq!(tags, ["größe 2", "trial", "vip"]);
        assert_eq!(wanted.customer.external_id.unwrap().as_str(), "org/7");
        assert_eq!(
            (wanted.owner.as_deref(), wanted.return_to),
            (Some("L"), None)
        );
        assert!(wanted.is_white_label && !wanted.replaces);
        assert_eq!(wanted.expires_in, Some(1800));
    }

    #[test]
    fn form_with_wrong_values_is_refused() {
        for body in ["external_id=a+b", "location=x:y", "expires_in=soon"] {
            assert!(wanted(&Fields::parse(body.as_bytes())).is_err(), "{body}");
        }
    }
}
