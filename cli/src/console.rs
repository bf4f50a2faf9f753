//! `evergreen console`: a link that signs in to the web console once.

use service::config::Layered;

use crate::exit::Failure;
use crate::operate::{Admin, text};
use crate::process::read;

/// Makes a link and prints it.
pub(crate) async fn link(source: &Layered) -> Result<(), Failure> {
    let admin = Admin::new(read(source, Admin::read)?)?;
    let made = admin.post("/v1/console-links", None, "path").await?;
    println!("{}", admin.url(text(&made, "path")));
    eprintln!(
        "The link signs in once, until {}.",
        text(&made, "expiresAt")
    );
    Ok(())
}
