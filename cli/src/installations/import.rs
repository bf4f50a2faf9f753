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
use crate::output::{Column, List, Output, Rows, clean, member};
use crate::progress::{Bar, interruptible};

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

/// How the results of rows are shown as JSON and with `--quiet`. For people they are lines, see [`line`].
const RESULTS: List = List {
    columns: &[Column::text("RESULT", |row| line(row, false))],
    id: |row| member(row, "installationId"),
    empty: "The file has no rows",
};

const AGAIN: &str = "The rows that are listed are done. Run the same command again for the rest: what is done stays unchanged";

pub(super) async fn import(admin: &Admin, output: Output, what: &Import) -> Result<(), Failure> {
    let text = read(&what.file)?;
    let entries = split(&text)
        .map_err(|error| Failure::Refused(format!("{}: {error}", what.file.display())))?;
    if !what.dry_run {
        output.note(WARNING);
    }
    // A wrong address or key ends the command before any row is sent.
    admin.get("/v1/apps", "apps").await?;
    let mut tally = Tally::new(output, what.dry_run);
    interruptible(send_all(admin, what, &entries, &mut tally), AGAIN).await?;
    let (imported, unchanged, refused) = (tally.imported, tally.unchanged, tally.refused);
    let would = if what.dry_run { "would be " } else { "" };
    tally.say(&format!(
        "{imported} {would}imported, {unchanged} unchanged, {refused} refused"
    ))?;
    let failed = match what.verify {
        true => interruptible(verify(admin, what.verify_rate, &mut tally), AGAIN).await?,
        false => 0,
    };
    tally.end()?;
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
    read.map_err(|error| Failure::NoAnswer(format!("{}: {error}", file.display())))?;
    Ok(text)
}

/// The results of the rows, which are shown as they come.
struct Tally {
    output: Output,
    is_dry_run: bool,
    shown: Rows,
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
    let mut bar = Bar::beside(tally.output, stdout().is_terminal());
    let path = path(what);
    let mut batch = Batch::default();
    for (index, entry) in entries.iter().enumerate() {
        bar.show("importing", index as u64, entries.len() as u64);
        match entry.raw {
            Ok(raw) => {
                if !batch.has_room_for(raw) {
                    std::mem::take(&mut batch).send(admin, &path, tally).await?;
                }
                batch.add(entry, raw);
            }
            Err(error) => tally.note(&json!({
                "at": entry.place.to_string(), "result": "refused", "reason": error.to_string(),
            }))?,
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
            let what = format!(
                "{}. The rows before {} are done; run the command again for the rest",
                failure.reason(),
                self.places[0]
            );
            match failure {
                Failure::NoAnswer(_) => Failure::NoAnswer(what),
                _ => Failure::Refused(what),
            }
        })?;
        for (place, result) in self.places.iter().zip(array(&answer, "results")) {
            let mut result = result.clone();
            result["at"] = json!(place);
            tally.note(&result)?;
        }
        Ok(())
    }
}

impl Tally {
    fn new(output: Output, is_dry_run: bool) -> Self {
        Self {
            output,
            is_dry_run,
            shown: output.list(&RESULTS),
            imported: 0,
            unchanged: 0,
            refused: 0,
            to_verify: BTreeMap::new(),
        }
    }

    /// Counts a row and shows it.
    fn note(&mut self, row: &Value) -> Result<(), Failure> {
        match text(row, "result") {
            "imported" => self.imported += 1,
            "unchanged" => self.unchanged += 1,
            _ => self.refused += 1,
        }
        let generation = row["generation"].as_str().and_then(|it| it.parse().ok());
        if let (Some(false), Some(id), Some(generation)) = (
            row["verified"].as_bool(),
            row["installationId"].as_str(),
            generation,
        ) {
            let held = self.to_verify.get(id);
            if held.is_none_or(|(held, _)| *held < generation) {
                self.to_verify
                    .insert(id.to_owned(), (generation, text(row, "at").to_owned()));
            }
        }
        self.show(row)
    }

    /// Shows the result of a row. `--quiet` shows the installations that were imported.
    fn show(&mut self, row: &Value) -> Result<(), Failure> {
        if self.output.is_table() {
            return unless_closed(self.output.line(&line(row, self.is_dry_run)));
        }
        if self.output.is_json() || text(row, "result") == "imported" {
            return unless_closed(self.shown.add([row]));
        }
        Ok(())
    }

    /// Says a sum, where it is not in the way of the results.
    fn say(&self, sum: &str) -> Result<(), Failure> {
        if self.output.is_table() {
            return unless_closed(self.output.line(sum));
        }
        self.output.note(sum);
        Ok(())
    }

    fn end(self) -> Result<(), Failure> {
        match self.output.is_json() {
            true => unless_closed(self.shown.end()),
            false => Ok(()),
        }
    }
}

/// An import goes on if nobody reads its lines any more.
fn unless_closed(printed: Result<(), Failure>) -> Result<(), Failure> {
    match printed {
        Err(Failure::ClosedPipe) => Ok(()),
        other => other,
    }
}

/// The result of a row for people.
fn line(row: &Value, is_dry_run: bool) -> String {
    let place = text(row, "at");
    let result = match text(row, "result") {
        "imported" if is_dry_run => "would be imported",
        result => result,
    };
    let installation = row["installationId"].as_str();
    let installation = installation.map_or_else(String::new, |id| format!(" {id}"));
    let reason = row["reason"].as_str();
    let reason = reason.map_or_else(String::new, |reason| format!(": {}", clean(reason)));
    format!("{place}: {result}{installation}{reason}")
}

/// Refreshes each installation once. Returns how many could not be.
async fn verify(admin: &Admin, rate: u32, tally: &mut Tally) -> Result<usize, Failure> {
    let all: Vec<(String, (u64, String))> =
        std::mem::take(&mut tally.to_verify).into_iter().collect();
    let at_once = VERIFIED_AT_ONCE.min(rate as usize);
    let mut bar = Bar::new(tally.output);
    let mut results = Vec::new();
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
        for ((id, (_, place)), result) in batch.iter().zip(array(&answer, "results")) {
            results.push(verified(place, id, result));
        }
        done += batch.len() as u64;
        bar.show("verifying", done, all.len() as u64);
    }
    drop(bar);
    let failed = |it: &&Value| it["result"] != "verified";
    let count = results.iter().filter(failed).count();
    for result in &results {
        // People see the failures alone.
        if failed(&result) || tally.output.is_json() {
            tally.show(result)?;
        }
    }
    tally.say(&format!(
        "{} verified, {count} not verified",
        all.len() - count
    ))?;
    Ok(count)
}

fn verified(place: &str, id: &str, result: &Value) -> Value {
    match result["verified"] == true {
        true => json!({ "at": place, "result": "verified", "installationId": id }),
        false => json!({
            "at": place, "result": "not verified", "installationId": id, "reason": result["message"],
        }),
    }
}
