//! The data directory of this machine, and the hosts of endpoints of events.

use std::io;
use std::path::Path;
use std::sync::Arc;

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};
use service::config::Size;
use store_writer::group_commit_db::is_in_memory;
use tokio::net::TcpStream;
use url::Url;

use super::finding::Finding;
use crate::run::{Checked, Place};
use crate::{data_dir, key_rings};

const NAME: &str = "data directory";

/// Below this the journal cannot be written for long.
const LEAST_FREE: u64 = 100_000_000;

/// Whether the directory can be used, and has room. It is not created.
pub(super) async fn data_directory(checked: Arc<Checked>) -> Vec<Finding> {
    let looked = tokio::task::spawn_blocking(move || look(&checked)).await;
    looked.unwrap_or_else(|_| {
        let todo = "this is a fault of evergreen: report it with the lines above";
        vec![Finding::problem(NAME, "the check has failed", todo)]
    })
}

fn look(checked: &Checked) -> Vec<Finding> {
    let directory = &checked.common.data_dir;
    let shown = directory.display();
    let mut findings = Vec::new();
    if directory.exists() {
        if let Err(refused) = data_dir::refuse_open(directory) {
            let todo = "run this check as the user of evergreen: only that user may have access";
            findings.push(Finding::problem(NAME, refused.reason(), todo));
        }
        if access(directory, AccessFlags::W_OK | AccessFlags::X_OK).is_err() {
            let todo = "run this check as the user of evergreen, or give that user the directory";
            findings.push(Finding::problem(
                NAME,
                format!("{shown} cannot be written"),
                todo,
            ));
        }
        if let Place::File { rings } = &checked.place {
            findings.extend(file_store(directory, rings.is_some()));
        }
    } else {
        findings.extend(parent(directory));
    }
    findings.extend(room(directory, checked.journal_max.unwrap_or(0)));
    if is_in_memory(directory).unwrap_or(false) {
        let text = format!("{shown} is in memory, and lost when the machine stops");
        findings.push(Finding::warning(NAME, text, "name a directory on a disk"));
    }
    if findings.is_empty() {
        let text = match directory.exists() {
            true => format!("{shown} is closed to others, can be written, and has room"),
            false => format!("{shown} will be made by the first start"),
        };
        findings.push(Finding::ok(NAME, text));
    }
    findings
}

/// The store of `up`, and its keys. A running process may have it open.
fn file_store(directory: &Path, has_rings: bool) -> Vec<Finding> {
    let store = match data_dir::has_store(directory, !has_rings) {
        Ok(true) => Finding::ok("store", format!("the file {} is there", data_dir::STORE)),
        Ok(false) => Finding::ok("store", "the first start will make its file"),
        Err(lost) => return vec![Finding::problem("store", lost.reason(), "restore the file")],
    };
    if has_rings || !key_rings::missing(directory).is_empty() {
        return vec![store];
    }
    let keys = match key_rings::load(directory) {
        Ok(_) => Finding::ok("sealing keys", "the files of both rings can be read"),
        Err(wrong) => Finding::problem(
            "sealing keys",
            wrong.reason(),
            "restore the file from your backup",
        ),
    };
    vec![store, keys]
}

/// The nearest directory that is there must allow to make the others.
fn parent(directory: &Path) -> Option<Finding> {
    let parent = existing(directory);
    let cannot = access(parent, AccessFlags::W_OK | AccessFlags::X_OK).is_err();
    cannot.then(|| {
        let shown = directory.display();
        let text = format!(
            "{shown} is not there, and {} does not allow to make it",
            parent.display()
        );
        let todo = format!("mkdir -m 700 {shown}, as the user of evergreen");
        Finding::problem(NAME, text, todo)
    })
}

fn existing(directory: &Path) -> &Path {
    let mut here = directory
        .ancestors()
        .filter(|it| !it.as_os_str().is_empty());
    here.find(|it| it.exists()).unwrap_or(Path::new("."))
}

fn room(directory: &Path, journal_max: u64) -> Option<Finding> {
    let disk = statvfs(existing(directory)).ok()?;
    let free = disk.blocks_available().saturating_mul(disk.fragment_size());
    let shown = Size::of_bytes(free / 1_000_000 * 1_000_000);
    match free {
        free if free < LEAST_FREE => Some(Finding::problem(
            NAME,
            format!("its disk has {shown} left"),
            "make room: a broker that cannot write its journal refreshes nothing",
        )),
        free if free < journal_max => Some(Finding::warning(
            NAME,
            format!(
                "its disk has {shown} left, and the journal may take {} (EVERGREEN_JOURNAL_MAX)",
                Size::of_bytes(journal_max)
            ),
            "make room, or lower EVERGREEN_JOURNAL_MAX",
        )),
        _ => None,
    }
}

/// Whether the host of an endpoint takes connections. Nothing is sent. Its path may be secret.
pub(super) async fn endpoint(checked: Arc<Checked>, number: usize) -> Vec<Finding> {
    const NAME: &str = "events";
    let Some(url) = checked.endpoints.get(number) else {
        return Vec::new();
    };
    let origin = url.origin().ascii_serialization();
    if has_proxy() {
        let text = format!("{origin} is reached through a proxy, and was not tried");
        return vec![Finding::ok(NAME, text)];
    }
    let finding = match connect(url).await {
        Ok(()) => Finding::ok(
            NAME,
            format!("{origin} takes connections; nothing was sent (`evergreen events test` sends)"),
        ),
        Err(error) => Finding::warning(
            NAME,
            format!("{origin} cannot be reached: {error}"),
            "is the receiver running? Messages are kept, and sent again for 3 days",
        ),
    };
    vec![finding]
}

async fn connect(url: &Url) -> io::Result<()> {
    let host = url.host_str().unwrap_or_default();
    // An address of IPv6 is in brackets.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_or_known_default().unwrap_or(443);
    TcpStream::connect((host, port)).await.map(drop)
}

fn has_proxy() -> bool {
    let names = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];
    names.iter().any(|name| std::env::var_os(name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_directory_that_exists_is_found() {
        let temp = std::env::temp_dir();
        assert_eq!(existing(&temp.join("none/below/it")), temp);
        assert_eq!(existing(Path::new("no-such-directory/x")), Path::new("."));
    }

    #[test]
    fn disk_without_room_for_the_journal_is_named() {
        let temp = std::env::temp_dir();
        let found = room(&temp, u64::MAX).unwrap().to_string();
        assert!(found.contains("left"), "{found}");
    }
}
