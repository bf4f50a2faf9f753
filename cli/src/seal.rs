//! `evergreen seal`: which sealing keys the records need, and their rotation, through a running broker.

mod follow;
mod status;

use serde_json::{Value, json};
use service::config::Layered;

use crate::args::Seal;
use crate::exit::Failure;
use crate::operate::Admin;
use crate::process::read;

/// `evergreen seal …`.
pub(crate) async fn act(source: &Layered, what: Seal) -> Result<(), Failure> {
    let admin = Admin::new(read(source, Admin::read)?)?;
    match what {
        Seal::Status { output } => status::show(&admin, output).await,
        Seal::Rotate { no_wait } => follow::rotate(&admin, no_wait).await,
        Seal::Forget { id } => {
            let body = json!({ "id": id });
            admin
                .post("/v1/seal/forget", Some(&body), "forgotten")
                .await?;
            println!("forgotten: the id `{id}` may be used for a new key");
            Ok(())
        }
    }
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_default()
}
