//! HTTP proxying of well-formed and malformed requests and responses, checked byte for byte.

mod bodies;
mod requests;
mod responses;
mod retries;

use std::time::Duration;

use tests::client::get;
use tests::raw_server::RawServer;
use tests::sandbox::Sandbox;
use tests::up::Up;
use tests::wait::{holds, until};

/// An `up` whose GHL is this raw server, with one installation, that of `locA`.
async fn up_before(server: &RawServer, settings: &[(&str, &str)]) -> Up {
    let token = [("GHL_ACCESS_TOKEN", "pit-1"), ("GHL_LOCATION_ID", "locA")];
    let settings = [&token, settings].concat();
    let up = Up::start(&settings).await;
    let up = up.against(&Sandbox::at(&server.url)).await;
    let url = format!("{}/v1/installations", up.internal);
    until("the installation", Duration::from_secs(20), || async {
        let (_, listed) = get(&up.client, &url).await;
        holds(listed["installations"][0]["locationId"] == "locA", listed)
    })
    .await;
    up
}
