//! `evergreen move`: moves the store of a stopped `up` from its file to Redis.

mod journal;
mod report;

use std::path::{Path, PathBuf};

use broker::StoreCheck;
use secrecy::{ExposeSecret, SecretString};
use service::config::{Layered, Settings};
use store::connection::Address;
use store::key_list::RingKind;
use store_writer::group_commit_db::DbError;
use store_writer::moving::{Counts, Move, MoveError, Progress, Step};
use store_writer::{OpenStoreError, Rings};

use crate::args::MoveStore;
use crate::data_dir::STORE;
use crate::exit::{Failure, chain};
use crate::output::Output;
use crate::process::read;
use crate::progress::{Bar, interruptible};
use crate::{key_rings, redis_prefix, redis_tls, run, settings};

/// The message after Ctrl-C. Until the move has ended, the file counts.
const CONTINUE: &str = "The move has not ended. Run the same command again to go on with it, or with --undo to take it back";

/// The settings of a move.
struct Config {
    data_dir: PathBuf,
    /// The address of the target, and how it is shown: without a password.
    target: Option<(Address, String)>,
    replicas: usize,
    check: StoreCheck,
    /// `None`: they are in the data directory.
    rings: Option<Rings>,
}

/// `evergreen move`.
pub(crate) async fn act(source: &Layered, output: Output, what: &MoveStore) -> Result<(), Failure> {
    let config = read(source, Config::read)?;
    let (directory, Some((address, to))) = (config.data_dir, config.target) else {
        return Err(Failure::Settings("EVERGREEN_REDIS_URL is missing".into()));
    };
    if !directory.join(STORE).exists() {
        return Err(Failure::Refused(format!(
            "there is no {STORE} in {}: name the data directory of `evergreen up` with --data-dir",
            directory.display()
        )));
    }
    let has_own_keys = config.rings.is_none();
    let rings = match config.rings {
        Some(rings) => rings,
        None => key_rings::load(&directory)?,
    };
    let opened = Move::open(&directory, &rings, (address, to.clone()), config.replicas);
    let moving = opened.map_err(refused)?;
    if what.undo {
        return undo(output, &moving, &directory, &to).await;
    }
    key_rings::check(moving.file()).await?;
    let journal = match moving.moved().map_err(refused)? {
        // By now a broker may have it.
        Some(moved) if moved.is_complete => journal::Left::unread(&directory),
        Some(_) | None => journal::check(&directory, moving.file(), &rings).await?,
    };
    let next = moving.next_step(journal.store.as_ref()).await;
    let next = next.map_err(refused)?;
    let checked = config.check.at_start(moving.target()).await;
    checked.map_err(|unsafe_store| Failure::Refused(chain(&unsafe_store)))?;
    let counts = moving.count().map_err(refused)?;
    if what.dry_run {
        let shown = report::to_json(&counts, &to, "dry_run");
        return output.report(&shown, "", || report::dry_run(next, &counts, &to));
    }
    let mut bar = Bar::new(output);
    let mut watch = |progress| show(&mut bar, progress, &counts);
    let running = async {
        let moved = moving.run(journal.store.as_ref(), &mut watch).await;
        moved.map_err(refused)
    };
    let moved = interruptible(running, CONTINUE).await;
    drop(bar);
    let step = moved?;
    let report = match step {
        Step::Done => report::done(&directory, &to),
        Step::Begin | Step::Continue => {
            report::moved(&counts, &directory, &to, has_own_keys, &journal)
        }
    };
    output.report(&report::to_json(&counts, &to, "moved"), "", || report)
}

async fn undo(output: Output, moving: &Move, directory: &Path, to: &str) -> Result<(), Failure> {
    let counts = moving.count().map_err(refused)?;
    let mut bar = Bar::new(output);
    let mut watch = |progress| show(&mut bar, progress, &counts);
    let undone = moving.undo(&mut watch).await;
    drop(bar);
    let undone = undone.map_err(refused)?;
    let shown = report::to_json(&counts, to, "undone");
    output.report(&shown, "", || report::undone(undone, directory, to))
}

fn show(bar: &mut Bar, progress: Progress, counts: &Counts) {
    #[cfg(feature = "crash-points")]
    crash_point(progress, counts);
    match progress {
        Progress::Copied(keys) => bar.show("copying", keys, counts.keys),
        Progress::Counted(keys) => bar.show("counting", keys, counts.keys),
        Progress::Removed(keys) => bar.show("removing", keys, counts.keys),
        Progress::FileMarked | Progress::Closed => {}
    }
}

/// Ends this process as a crash would, for tests: see `broker/src/refresh/crash_point.rs`.
#[cfg(feature = "crash-points")]
fn crash_point(progress: Progress, counts: &Counts) {
    let reached = match progress {
        Progress::Copied(keys) if keys < counts.keys => "copied-some",
        Progress::Copied(_) => "copied",
        Progress::Counted(_) => "counted",
        Progress::FileMarked => "file-marked",
        Progress::Closed => "closed",
        Progress::Removed(_) => "removed-some",
    };
    if std::env::var("TEST_MOVE_CRASH_POINT").as_deref() == Ok(reached) {
        std::process::abort();
    }
}

impl Config {
    fn read(settings: &mut Settings<'_>) -> Self {
        let url = settings.secret("EVERGREEN_REDIS_URL").unwrap_or_else(|| {
            settings.mistake(
                "EVERGREEN_REDIS_URL",
                "is missing: name the store to move to here, in a file with EVERGREEN_REDIS_URL_FILE, or with --to",
            );
            SecretString::default()
        });
        let tls = redis_tls::read_for(settings, [&url]);
        let prefix = redis_prefix::read(settings);
        let target = match Address::parse_with_tls(&url, &tls) {
            Ok(address) => Some((
                address.with_prefix(prefix),
                without_login(url.expose_secret()),
            )),
            Err(_) if url.expose_secret().is_empty() => None,
            Err(error) => {
                settings.mistake("EVERGREEN_REDIS_URL", format!("is {error}"));
                None
            }
        };
        let rings = (
            key_rings::optional(settings, RingKind::Access),
            key_rings::optional(settings, RingKind::Refresh),
        );
        Self {
            data_dir: settings::data_dir(settings),
            target,
            replicas: run::replicas(settings, &url),
            check: settings.parse(
                "EVERGREEN_STORE_CHECK",
                StoreCheck::default(),
                "enforce or warn",
            ),
            rings: match rings {
                (Some(access), Some(refresh)) => Some(Rings { access, refresh }),
                // These are the keys of `up`, which needs both, too.
                (Some(_), None) | (None, Some(_)) => {
                    settings.mistake(
                        "EVERGREEN_ACCESS_KEYS",
                        "and EVERGREEN_REFRESH_KEYS go together: set both as `up` has them, or neither",
                    );
                    None
                }
                (None, None) => None,
            },
        }
    }
}

/// A store's URL without user, password and parameters.
pub(crate) fn without_login(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("redis", url));
    let rest = rest.split('?').next().unwrap_or_default();
    let host = rest.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}")
}

fn refused(error: MoveError) -> Failure {
    match error {
        MoveError::Open(OpenStoreError::File(DbError::InUse { path })) => Failure::Refused(
            format!("{} is in use: stop `evergreen up` first", path.display()),
        ),
        other => Failure::Refused(chain(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_shown_without_user_and_password() {
        for (url, shown) in [
            ("redis://host:6379", "redis://host:6379"),
            ("rediss://broker:p@ss@host/0", "rediss://host/0"),
            (
                "redis-sentinel://broker:secret@a:1,b:2/store?sentinel_user=u&sentinel_password=s@x",
                "redis-sentinel://a:1,b:2/store",
            ),
        ] {
            assert_eq!(without_login(url), shown);
        }
    }
}
