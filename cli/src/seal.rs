//! `evergreen seal`: which sealing keys the records need, and their rotation, through a running broker.

mod follow;
mod status;

use serde_json::{Value, json};
use service::config::Layered;

use crate::args::Seal;
use crate::exit::Failure;
use crate::operate::Admin;
use crate::output::Output;
use crate::process::read;

/// `evergreen seal …`.
pub(crate) async fn act(source: &Layered, output: Output, what: Seal) -> Result<(), Failure> {
    let admin = Admin::new(read(source, Admin::read)?)?;
    match what {
        Seal::Status => status::show(&admin, output).await,
        Seal::Rotate { no_wait } => follow::rotate(&admin, output, no_wait).await,
        Seal::Forget { id } => {
            let body = json!({ "id": id });
            let path = "/v1/seal/forget";
            let forgotten = admin.post(path, Some(&body), "forgotten").await?;
            output.report(&forgotten, &id, || {
                format!("forgotten: the id `{id}` may be used for a new key")
            })
        }
    }
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_default()
}
