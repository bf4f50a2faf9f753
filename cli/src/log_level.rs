//! `evergreen log-level`: shows or changes the log filter of a running process.

use serde_json::{Value, json};
use service::config::Layered;

use crate::args::LogLevel;
use crate::exit::Failure;
use crate::operate::{Admin, text};
use crate::output::Output;
use crate::process::read;

const PATH: &str = "/v1/log-level";

/// `evergreen log-level …`.
pub(crate) async fn act(
    source: &Layered,
    output: Output,
    wanted: &LogLevel,
) -> Result<(), Failure> {
    let admin = Admin::new(read(source, Admin::read)?)?;
    let shown = match &wanted.filter {
        None => admin.get(PATH, "filter").await?,
        Some(filter) => {
            let lasts = wanted.lasts.map(humantime::format_duration);
            let lasts = lasts.map(|lasts| lasts.to_string().replace(' ', ""));
            let body = json!({ "filter": filter, "for": lasts });
            admin.put(PATH, &body, "filter").await?
        }
    };
    output.report(&shown, text(&shown, "filter"), || line(&shown))
}

fn line(shown: &Value) -> String {
    let (filter, configured) = (text(shown, "filter"), text(shown, "configured"));
    match shown["for"].as_str() {
        Some(left) => format!("{filter} (for {left}, then {configured})"),
        None if filter == configured => filter.to_owned(),
        None => format!("{filter} (until the process ends, then {configured})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_says_how_long_the_filter_applies() {
        let mut shown = json!({ "filter": "debug", "configured": "info", "for": "9m 59s" });
        assert_eq!(line(&shown), "debug (for 9m 59s, then info)");
        shown["for"] = Value::Null;
        assert_eq!(line(&shown), "debug (until the process ends, then info)");
        shown["filter"] = "info".into();
        assert_eq!(line(&shown), "info");
    }
}
