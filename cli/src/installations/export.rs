//! `evergreen installations export`: writes installations and their tokens to a file, one a line.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use tokio::signal::ctrl_c;
use url::form_urlencoded::Serializer;

use crate::args::Export;
use crate::exit::Failure;
use crate::operate::Admin;
use crate::output::Output;
use crate::progress::Bar;

const NEXT: &str = "x-evergreen-next";
/// One row a line.
const ROWS: &str = "application/x-ndjson";
const LEFT_OUT: &str = "x-evergreen-left-out";

pub(super) async fn export(admin: &Admin, output: Output, what: &Export) -> Result<(), Failure> {
    if !what.with_tokens {
        return Err(Failure::Refused(
            "An export has the access and refresh tokens of all customers, in clear text. Everyone who has the file \
             can act for them. If you want that, repeat the command with --with-tokens. `evergreen installations list` \
             shows installations without tokens"
                .to_owned(),
        ));
    }
    if what.out.exists() && !what.overwrite {
        return Err(exists(&what.out));
    }
    let unfinished = Unfinished::beside(&what.out);
    let (count, left_out) = tokio::select! {
        written = write(admin, output, what, &unfinished.0) => written?,
        _ = ctrl_c() => {
            return Err(Failure::Interrupted("Nothing was exported. Run the command again".to_owned()));
        }
    };
    let finished = match what.overwrite {
        true => fs::rename(&unfinished.0, &what.out),
        false => fs::hard_link(&unfinished.0, &what.out),
    };
    match finished {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(exists(&what.out));
        }
        other => other.map_err(|error| failed(&what.out, &error))?,
    }
    let file = what.out.display().to_string();
    let shown = json!({ "exported": count, "file": file, "leftOut": left_out });
    output.report(&shown, &file, || summary(count, &file, &left_out))?;
    output.note("Stop this evergreen's brokers before another system refreshes these tokens.");
    Ok(())
}

fn summary(count: u64, file: &str, left_out: &LeftOut) -> String {
    let mut lines = vec![format!("{count} installations are in {file}")];
    for (reason, count) in left_out.iter().filter(|(_, count)| **count > 0) {
        lines.push(match reason.as_str() {
            // They are counted among those of agencies.
            "named" => format!(
                "{count} locations of agencies have an external id or tags, which no row holds. Set them again with \
                 `evergreen installations tag`. `evergreen move` takes them along"
            ),
            reason => format!("{count} are not: {}", explained(reason)),
        });
    }
    lines.join("\n")
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::NoAnswer(format!("{}: {error}", path.display()))
}

fn exists(path: &Path) -> Failure {
    Failure::Refused(format!(
        "{} exists. Name another file, or repeat the command with --overwrite",
        path.display()
    ))
}

/// A file that is removed if the export does not succeed.
struct Unfinished(PathBuf);

impl Unfinished {
    fn beside(path: &Path) -> Self {
        let extension = format!("{}.new", std::process::id());
        Self(path.with_added_extension(extension))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It is gone if it was renamed.
        let _ = fs::remove_file(&self.0);
    }
}

type LeftOut = BTreeMap<String, u64>;

async fn write(
    admin: &Admin,
    output: Output,
    what: &Export,
    path: &Path,
) -> Result<(u64, LeftOut), Failure> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| failed(path, &error))?;
    let mut bar = Bar::new(output);
    let (mut count, mut left_out, mut after) = (0, LeftOut::new(), None::<String>);
    loop {
        let (headers, rows) = admin.get_text(&page(what, after.as_deref()), ROWS).await?;
        file.write_all(rows.as_bytes())
            .map_err(|error| failed(path, &error))?;
        count += rows.lines().count() as u64;
        bar.show_count("exporting", count);
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        for (reason, more) in header(LEFT_OUT)
            .unwrap_or_default()
            .split(", ")
            .filter_map(|it| it.split_once('='))
        {
            *left_out.entry(reason.to_owned()).or_default() +=
                more.parse::<u64>().unwrap_or_default();
        }
        after = header(NEXT).map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    file.sync_all().map_err(|error| failed(path, &error))?;
    Ok((count, left_out))
}

fn page(what: &Export, after: Option<&str>) -> String {
    let mut query = Serializer::new(String::new());
    query.append_pair("with_tokens", "true");
    query.extend_pairs(what.app.as_ref().map(|app| ("app", app.as_str())));
    query.extend_pairs(after.map(|after| ("after", after)));
    format!("/v1/installations/export?{}", query.finish())
}

fn explained(reason: &str) -> &str {
    match reason {
        "agency" => "locations of agencies. The row of the agency is enough to make their tokens",
        "ended" => "invalid or revoked. Their customers have to connect again",
        "static" => "private integration tokens. They are in GHL's settings of each customer",
        "unreadable" => {
            "records that the keys of this broker do not open: see `evergreen seal status`"
        }
        other => other,
    }
}
