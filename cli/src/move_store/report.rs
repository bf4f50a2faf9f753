//! The messages of `evergreen move`.

use std::path::Path;

use serde_json::{Value, json};
use store::key_list::RingKind;
use store_writer::moving::{Counts, Step, Undone};

use super::journal::Left;
use crate::data_dir::{JOURNAL, STORE};

/// The result of a dry run.
pub(super) fn dry_run(next: Step, counts: &Counts, to: &str) -> String {
    match next {
        Step::Done => format!("This store was moved to {to}. There is nothing to do."),
        Step::Begin => format!("Would move to {to}, which is empty: {}.", listed(counts)),
        Step::Continue => format!("Would go on with the move to {to}: {}.", listed(counts)),
    }
}

/// The result of a move that was done before.
pub(super) fn done(directory: &Path, to: &str) -> String {
    format!(
        "This store was moved to {to} before, and nothing was changed now. {} stays behind as it was.",
        directory.join(STORE).display()
    )
}

/// The result of a move, and what to do next. Names the files of the keys, and never shows a key.
pub(super) fn moved(
    counts: &Counts,
    directory: &Path,
    to: &str,
    has_own_keys: bool,
    journal: &Left,
) -> String {
    let mut text = format!("Moved to {to}: {}.\n\n", listed(counts));
    text.push_str("The tokens there are sealed with the same keys as before. ");
    if has_own_keys {
        let line = |kind: RingKind, who| {
            let (setting, file) = (
                format!("{}_FILE", kind.setting()),
                directory.join(kind.file()),
            );
            format!("  {setting:<27} {} ({who})\n", file.display())
        };
        text.push_str("Give copies of these files to:\n");
        text.push_str(&line(RingKind::Access, "every broker and gateway"));
        text.push_str(&line(RingKind::Refresh, "every broker, and no gateway"));
    } else {
        text.push_str(
            "Give brokers EVERGREEN_ACCESS_KEYS and EVERGREEN_REFRESH_KEYS as `up` has them, and gateways \
             EVERGREEN_ACCESS_KEYS alone.\n",
        );
    }
    if journal.is_there {
        let file = directory.join(JOURNAL);
        text.push_str(&format!(
            "\nThe journal {} has nothing that the store lacks. It keeps GHL's answers of the last day, in case Redis \
             loses writes: let one broker have {} as its EVERGREEN_DATA_DIR.\n",
            file.display(),
            directory.display()
        ));
    }
    if journal.unusable > 0 {
        text.push_str(&format!(
            "Keep the journal: {} answers of GHL in it belong to installations that the store does not have, or are \
             sealed with a key that is missing.\n",
            journal.unusable
        ));
    }
    text.push_str(
        "\n`evergreen up` refuses this directory from now on, since a refresh token works once. `evergreen move --undo` \
         brings the store back, as long as no broker has used it there.",
    );
    text
}

/// The result of an undo.
pub(super) fn undone(undone: Undone, directory: &Path, to: &str) -> String {
    let directory = directory.display();
    match undone {
        Undone::Emptied => format!(
            "The store is in {directory} again, and {to} is empty. `evergreen up` starts with this directory."
        ),
        Undone::LeftThere => format!(
            "The store is in {directory} again, and `evergreen up` starts with it. {to} was not emptied: it does not \
             answer, or holds something else. No broker uses the data that the move may have left there. Empty it \
             before you move again."
        ),
    }
}

/// The counts of a move. `result`: `dry_run`, `moved` or `undone`.
pub(super) fn to_json(counts: &Counts, to: &str, result: &str) -> Value {
    json!({
        "result": result,
        "to": to,
        "installations": counts.installations,
        "names": counts.names,
        "keys": counts.callers,
        "auditEntries": counts.audit,
        "events": counts.events,
        "messages": counts.messages,
        "deadLetters": counts.dead_letters,
    })
}

fn listed(counts: &Counts) -> String {
    let kinds = [
        (counts.installations, "installations"),
        (counts.names, "names of locations and companies"),
        (counts.callers, "callers' keys"),
        (counts.audit, "entries of the audit log"),
        (counts.events, "events"),
        (counts.messages, "messages for endpoints"),
        (counts.dead_letters, "messages that no endpoint took"),
    ];
    let listed = kinds.map(|(count, what)| format!("{count} {what}"));
    listed.join(", ")
}
