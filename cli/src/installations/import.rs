//! `evergreen installations import`: hands the rows of a file to a running broker, in batches.
//!
//! The command keeps no state. If it is killed, it is run again: the broker knows which rows it has, and which of them
//! were verified.

use std::collections::BTreeMap;
use std::fs;
use std::io::{IsTerminal, Read, stdin, stdout};
use std::path::Path;
use std::time::Duration;

use ghl::token_row::{Entry, split};
use secrecy::zeroize::Zeroizing;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use url::form_urlencoded::Serializer;

use crate::args::Import;
use crate::exit::Failure;
use crate::operate::{Admin, array, text};
use crate::progress::Bar;

/// The most rows of a request.
const ROWS: usize = 1000;
/// The most bytes of a request, below what a broker takes with the smallest `EVERGREEN_RECEIVE_MEMORY`. A row that is
/// longer is sent alone.
const BYTES: usize = 768 * 1024;
/// The most installations of a request to verify them.
const VERIFIED_AT_ONCE: usize = 50;

const WARNING: &str = "\
Stop the other backend's token refreshes before this. A refresh token is valid once: if both refresh, one of them spends
the token that the other one has, and the customer has to connect again.";

pub(super) async fn import(admin: &Admin, what: &Import) -> Result<(), Failure> {
    let text = read(&what.file)?;
    let entries = split(&text)
        .map_err(|error| Failure::Refused(format!("{}: {error}", what.file.display())))?;
    if !what.dry_run {
        eprintln!("{WARNING}");
    }
    // A wrong address or key ends the command before any row is sent.
    admin.get("/v1/apps", "apps").await?;
    let mut tally = Tally::default();
    send_all(admin, what, &entries, &mut tally).await?;
    let Tally {
        imported,
        unchanged,
        refused,
        to_verify,
    } = tally;
    let would = if what.dry_run { "would be " } else { "" };
    println!("{imported} {would}imported, {unchanged} unchanged, {refused} refused");
    let failed = match what.verify {
        true => verify(admin, what.verify_rate, to_verify).await?,
        false => 0,
    };
    match (refused, failed) {
        (0, 0) => Ok(()),
        (refused, 0) => Err(Failure::Refused(format!("{refused} rows were refused"))),
        (refused, failed) => Err(Failure::Refused(format!(
            "{refused} rows were refused, {failed} installations were not verified. Run the command again to verify \
             only these"
        ))),
    }
}

fn read(file: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let is_stdin = file == Path::new("-");
    let read = match is_stdin {
        true => stdin().read_to_string(&mut text).map(drop),
        false => fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text).map(drop)),
    };
    read.map_err(|error| Failure::Refused(format!("{}: {error}", file.display())))?;
    Ok(text)
}

/// The results of the rows.
#[derive(Default)]
struct Tally {
    imported: usize,
    unchanged: usize,
    refused: usize,
    /// Installations with a token that was not refreshed yet: the generation of that token, and the row's place.
    to_verify: BTreeMap<String, (u64, String)>,
}

async fn send_all(
    admin: &Admin,
    what: &Import,
    entries: &[Entry<'_>],
    tally: &mut Tally,
) -> Result<(), Failure> {
    // On a terminal the lines of the rows show the progress.
    let mut bar = (!stdout().is_terminal()).then(Bar::new);
    let path = path(what);
    let mut batch = Batch::default();
    for (index, entry) in entries.iter().enumerate() {
        if let Some(bar) = &mut bar {
            bar.show("importing", index as u64, entries.len() as u64);
        }
        match entry.raw {
            Ok(raw) => {
                if !batch.has_room_for(raw) {
                    std::mem::take(&mut batch).send(admin, &path, tally).await?;
                }
                batch.add(entry, raw);
            }
            Err(error) => tally.note(&json!({
                "at": entry.place.to_string(), "result": "refused", "reason": error.to_string(),
            })),
        }
    }
    batch.send(admin, &path, tally).await
}

fn path(what: &Import) -> String {
    let mut query = Serializer::new(String::new());
    query.extend_pairs(what.app.as_ref().map(|app| ("app", app.as_str())));
    query.extend_pairs(what.dry_run.then_some(("dry_run", "true")));
    format!("/v1/installations?{}", query.finish())
}

/// Rows of one request. The broker gets them in an array, or in a map if the file is one.
#[derive(Default)]
struct Batch {
    places: Vec<String>,
    rows: Zeroizing<String>,
    is_map: bool,
}

impl Batch {
    fn has_room_for(&self, raw: &str) -> bool {
        self.places.is_empty() || (self.places.len() < ROWS && self.rows.len() + raw.len() <= BYTES)
    }

    fn add(&mut self, entry: &Entry<'_>, raw: &str) {
        if self.rows.capacity() == 0 {
            self.rows.reserve(BYTES + 1024);
        }
        if !self.places.is_empty() {
            self.rows.push(',');
        }
        if let Some(key) = &entry.key {
            self.is_map = true;
            self.rows.push_str(&Value::from(key.as_str()).to_string());
            self.rows.push(':');
        }
        self.rows.push_str(raw);
        self.places.push(entry.place.to_string());
    }

    async fn send(self, admin: &Admin, path: &str, tally: &mut Tally) -> Result<(), Failure> {
        if self.places.is_empty() {
            return Ok(());
        }
        let rows = self.rows.as_str();
        let body = Zeroizing::new(match self.is_map {
            true => format!("{{{rows}}}"),
            false => format!("[{rows}]"),
        });
        let sent = admin.post_patiently(path, &body, "results").await;
        let answer = sent.map_err(|failure| {
            Failure::Refused(format!(
                "{}. The rows before {} are done; run the command again for the rest",
                failure.reason(),
                self.places[0]
            ))
        })?;
        for (place, result) in self.places.iter().zip(array(&answer, "results")) {
            let mut result = result.clone();
            result["at"] = json!(place);
            tally.note(&result);
        }
        Ok(())
    }
}

impl Tally {
    /// Counts a row and shows it.
    fn note(&mut self, row: &Value) {
        let place = text(row, "at");
        let result = text(row, "result");
        match result {
            "imported" => self.imported += 1,
            "unchanged" => self.unchanged += 1,
            _ => self.refused += 1,
        }
        let installation = row["installationId"].as_str();
        let installation = installation.map_or_else(String::new, |id| format!(" {id}"));
        let reason = row["reason"].as_str();
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        println!("{place}: {result}{installation}{reason}");
        let generation = row["generation"].as_str().and_then(|it| it.parse().ok());
        if let (Some(false), Some(id), Some(generation)) = (
            row["verified"].as_bool(),
            row["installationId"].as_str(),
            generation,
        ) {
            let held = self.to_verify.get(id);
            if held.is_none_or(|(held, _)| *held < generation) {
                self.to_verify
                    .insert(id.to_owned(), (generation, place.to_owned()));
            }
        }
    }
}

/// Refreshes each installation once. Returns how many could not be.
async fn verify(
    admin: &Admin,
    rate: u32,
    installations: BTreeMap<String, (u64, String)>,
) -> Result<usize, Failure> {
    let all: Vec<(String, (u64, String))> = installations.into_iter().collect();
    let at_once = VERIFIED_AT_ONCE.min(rate as usize);
    let mut bar = Bar::new();
    let mut failed = Vec::new();
    let mut done = 0;
    let mut next = Instant::now();
    for batch in all.chunks(at_once) {
        sleep_until(next).await;
        next = Instant::now()
            + Duration::from_secs(1) * u32::try_from(batch.len()).unwrap_or(1) / rate;
        let body = batch.iter().map(|(id, (generation, _))| {
            json!({ "installationId": id, "generation": generation.to_string() })
        });
        let body = json!({ "installations": body.collect::<Vec<_>>() });
        let path = "/v1/installations/verify";
        let answer = admin
            .post_patiently(path, &body.to_string(), "results")
            .await?;
        for ((_, (_, place)), result) in batch.iter().zip(array(&answer, "results")) {
            if result["verified"] != true {
                failed.push(format!(
                    "{place}: not verified: {}",
                    text(result, "message")
                ));
            }
        }
        done += batch.len() as u64;
        bar.show("verifying", done, all.len() as u64);
    }
    drop(bar);
    for line in &failed {
        println!("{line}");
    }
    println!(
        "{} verified, {} not verified",
        all.len() - failed.len(),
        failed.len()
    );
    Ok(failed.len())
}
