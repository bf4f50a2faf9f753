//! `evergreen apps …`.

use service::config::Layered;

use crate::args::Apps;
use crate::exit::Failure;
use crate::operate::Admin;
use crate::process::read;

pub(crate) async fn apps(source: &Layered, what: Apps) -> Result<(), Failure> {
    let admin = Admin::new(read(source, Admin::read)?)?;
    match what {
        Apps::List => list(&admin).await,
        Apps::Free { name } => {
            admin.delete(&format!("/v1/apps/{name}")).await?;
            println!("free");
            Ok(())
        }
    }
}

async fn list(admin: &Admin) -> Result<(), Failure> {
    let listed = admin.get("/v1/apps", "apps").await?;
    println!(
        "{:<20} {:<40} {:<26} PROBLEM",
        "NAME", "CLIENT ID OF THE BROKER", "APP AT GHL IN THE STORE"
    );
    for app in listed["apps"].as_array().into_iter().flatten() {
        let text = |field: &str| app[field].as_str().unwrap_or("-");
        let row = format!(
            "{:<20} {:<40} {:<26} {}",
            text("name"),
            text("clientId"),
            text("appIdInStore"),
            app["problem"].as_str().unwrap_or_default(),
        );
        println!("{}", row.trim_end());
    }
    Ok(())
}
