//! `evergreen seal rotate`: starts a rotation, or joins one, and follows it to its end.

use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use super::number;
use crate::exit::Failure;
use crate::operate::{Admin, array, text};
use crate::output::Output;
use crate::progress::{Bar, interruptible};

const ROTATE: &str = "/v1/seal/rotate";
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Starts a rotation and follows it, unless `no_wait`.
pub(super) async fn rotate(admin: &Admin, output: Output, no_wait: bool) -> Result<(), Failure> {
    let shown = admin.post(ROTATE, None, "rotation").await?;
    if no_wait {
        return output.report(&shown, "", || {
            "the rotation runs; `evergreen seal rotate` follows it".to_owned()
        });
    }
    let followed = interruptible(
        follow(admin, output, shown),
        "The rotation goes on in the broker. `evergreen seal rotate` follows it again",
    );
    let shown = followed.await?;
    let rotation = &shown["rotation"];
    output.report(rotation, "", || summary(&shown))
}

/// Shows the progress until the end.
async fn follow(admin: &Admin, output: Output, mut shown: Value) -> Result<Value, Failure> {
    let mut bar = Bar::new(output);
    let mut said: Option<String> = None;
    while shown["rotation"]["phase"] != "finished" {
        if shown["rotation"].is_null() {
            // The broker was restarted meanwhile.
            shown = admin.post(ROTATE, None, "rotation").await?;
        }
        let progress = &shown["rotation"];
        let (done, total) = (number(progress, "done"), number(progress, "total"));
        bar.show(doing(text(progress, "phase")), done, total);
        if let Some(reason) = progress["waitsFor"].as_str()
            && said.as_deref() != Some(reason)
        {
            output.note(format!("it waits: {reason}"));
            said = Some(reason.to_owned());
        }
        sleep(POLL_INTERVAL).await;
        shown = admin.get(ROTATE, "rotation").await?;
    }
    Ok(shown)
}

fn doing(phase: &str) -> &'static str {
    match phase {
        "retiring" => "waiting for other brokers",
        "verifying" => "verifying",
        _ => "sealing anew",
    }
}

/// The result, and the keys that may be removed now.
fn summary(shown: &Value) -> String {
    let progress = &shown["rotation"];
    let (resealed, unreadable) = (number(progress, "resealed"), number(progress, "unreadable"));
    let mut lines = vec![format!("{resealed} records were sealed anew.")];
    if unreadable > 0 {
        lines.push(format!(
            "{unreadable} records cannot be opened: see `evergreen seal status`."
        ));
    }
    for ring in array(shown, "rings") {
        let setting = text(ring, "setting");
        let others = array(ring, "keys").filter(|key| key["seals"] != true);
        let (free, kept): (Vec<&Value>, Vec<&Value>) =
            others.partition(|key| key["state"] == "free");
        let ids = |keys: &[&Value]| {
            let ids: Vec<&str> = keys.iter().map(|key| text(key, "id")).collect();
            ids.join(", ")
        };
        let in_ring: Vec<&Value> = free
            .into_iter()
            .filter(|key| key["inRing"] == true)
            .collect();
        if !kept.is_empty() {
            lines.push(format!(
                "Still needed in {setting}: {}. Records that cannot be opened need it, or a broker has it in front.",
                ids(&kept)
            ));
        }
        lines.push(match in_ring.is_empty() {
            true => format!("Nothing can be removed from {setting}."),
            false => format!("Can be removed from {setting} now: {}.", ids(&in_ring)),
        });
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn summary_names_the_keys_that_can_be_removed_and_those_that_cannot() {
        let key =
            |id, seals, state| json!({ "id": id, "seals": seals, "inRing": true, "state": state });
        let shown = json!({
            "rotation": { "phase": "finished", "resealed": 7, "unreadable": 1 },
            "rings": [
                { "setting": "A", "keys": [key("new", true, "needed"), key("old", false, "free")] },
                { "setting": "R", "keys": [key("new", true, "needed"), key("old", false, "needed")] },
            ],
        });
        let said = summary(&shown);
        assert!(
            said.starts_with("7 records were sealed anew.\n1 records cannot"),
            "{said}"
        );
        assert!(said.contains("Can be removed from A now: old."), "{said}");
        assert!(said.contains("Still needed in R: old."), "{said}");
        assert!(said.contains("Nothing can be removed from R."), "{said}");
    }
}
