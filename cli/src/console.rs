//! `evergreen console`: a link that signs in to the web console once.

use service::config::Layered;

use crate::exit::Failure;
use crate::operate::{Admin, text};
use crate::output::Output;
use crate::process::read;

/// Makes a link and prints it.
pub(crate) async fn link(source: &Layered, output: Output) -> Result<(), Failure> {
    let admin = Admin::new(read(source, Admin::read)?)?;
    let mut made = admin.post("/v1/console-links", None, "path").await?;
    let url = admin.url(text(&made, "path"));
    made["url"] = url.clone().into();
    output.report(&made, &url, || url.clone())?;
    let until = text(&made, "expiresAt");
    output.note(format!("The link signs in once, until {until}."));
    Ok(())
}
