//! Reads files again when they change, and keeps what they last had that was good.
//!
//! The content decides, and not a time or an inode: Kubernetes replaces a symbolic link, other programs write the file
//! anew. A certificate and its key cannot be replaced in one step, so a new pair that is bad is looked at once more
//! before anybody is told.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tracing::{info, warn};

use super::files::{Contents, Files, Names, Unusable};
use super::validity::Date;
use crate::config::Settings;
use crate::shutdown::Shutdown;

/// How often the files are read.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);

/// How long before the expiry of a certificate in use a warning is logged, in seconds. Tools that
/// renew certificates do it earlier, also if these live for some weeks only.
const EXPIRES_SOON: u64 = 3 * 24 * 3600;

/// How often that warning is logged, in seconds.
const WARNING_INTERVAL: u64 = 24 * 3600;

/// Files, and what is in use of them.
#[derive(Debug)]
pub(super) struct Reloaded<T> {
    files: Files,
    load: fn(&Files, &Contents, Date) -> Result<Loaded<T>, Unusable>,
    current: watch::Sender<Arc<InUse<T>>>,
    /// Asks for a look before its time.
    asked: Notify,
}

/// The value that was made of the files.
#[derive(Debug)]
pub(super) struct Loaded<T> {
    pub(super) value: T,
    pub(super) expires: Date,
}

pub(super) struct InUse<T> {
    pub(super) loaded: Loaded<T>,
    contents: Contents,
}

/// The result of one look at the files.
pub(super) enum Look<T> {
    Same,
    New(InUse<T>),
    Bad(Unusable),
}

/// The last look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Good,
    /// The files may be in the middle of a change.
    Doubtful(Unusable),
    /// Somebody was told.
    Bad(Unusable),
}

impl<T> Reloaded<T> {
    /// Reads the settings with these names, and the files for the first time. `None` if they are unset. Mistakes are
    /// collected in `settings`.
    pub(super) fn read(
        settings: &mut Settings<'_>,
        names: Names,
        load: fn(&Files, &Contents, Date) -> Result<Loaded<T>, Unusable>,
    ) -> Option<Arc<Self>> {
        let files = Files::read(settings, names)?;
        match Self::new(files, load) {
            Ok(reloaded) => Some(Arc::new(reloaded)),
            Err(unusable) => {
                settings.mistake(unusable.setting, unusable.problem.to_string());
                None
            }
        }
    }

    fn new(
        files: Files,
        load: fn(&Files, &Contents, Date) -> Result<Loaded<T>, Unusable>,
    ) -> Result<Self, Unusable> {
        let contents = files.load()?;
        let loaded = load(&files, &contents, Date::today())?;
        let (current, _) = watch::channel(Arc::new(InUse { loaded, contents }));
        Ok(Self {
            files,
            load,
            current,
            asked: Notify::new(),
        })
    }

    /// Looks at the files soon.
    pub(super) fn look_now(&self) {
        self.asked.notify_one();
    }

    pub(super) fn current(&self) -> watch::Receiver<Arc<InUse<T>>> {
        self.current.subscribe()
    }

    /// Looks at the files until the shutdown starts. `used` is told of each expiry of a certificate in use.
    pub(super) async fn run(&self, shutdown: &Shutdown, used: impl Fn(Date)) {
        let mut state = State::Good;
        let mut warned_at = None;
        used(self.current.borrow().loaded.expires);
        loop {
            tokio::select! {
                () = shutdown.started() => return,
                () = self.asked.notified() => {}
                () = sleep(INTERVAL) => {}
            }
            self.warn_of_expiry(Date::today(), &mut warned_at);
            let look = self.look().await;
            let next = state.next(&look);
            self.report(&state, &next, &look);
            if let Look::New(new) = look {
                used(new.loaded.expires);
                self.current.send_replace(Arc::new(new));
            }
            state = next;
        }
    }

    fn warn_of_expiry(&self, now: Date, warned_at: &mut Option<Date>) {
        let expires = self.current.borrow().loaded.expires;
        if is_warning_due(expires, now, *warned_at) {
            let setting = self.files.names.certificate;
            warn!(setting, %expires, "the certificate in use expires, and was not renewed");
            *warned_at = Some(now);
        }
    }

    async fn look(&self) -> Look<T> {
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || files.load()).await;
        let contents = match read {
            Ok(Ok(contents)) => contents,
            Ok(Err(unusable)) => return Look::Bad(unusable),
            // The runtime ends.
            Err(_) => return Look::Same,
        };
        if self.current.borrow().contents == contents {
            return Look::Same;
        }
        match (self.load)(&self.files, &contents, Date::today()) {
            Ok(loaded) => Look::New(InUse { loaded, contents }),
            Err(unusable) => Look::Bad(unusable),
        }
    }

    fn report(&self, before: &State, now: &State, look: &Look<T>) {
        let setting = self.files.names.certificate;
        match (look, now) {
            (Look::New(new), _) => {
                info!(setting, expires = %new.loaded.expires, "a new certificate is used from now on");
            }
            (Look::Same | Look::Bad(_), State::Bad(unusable)) if before != now => warn!(
                setting,
                reason = %unusable,
                "the new certificate is not used, and the old one is used further"
            ),
            (Look::Same | Look::Bad(_), _) => {}
        }
    }
}

/// Once a day.
pub(super) fn is_warning_due(expires: Date, now: Date, warned_at: Option<Date>) -> bool {
    let was_told = warned_at.is_some_and(|at| now.seconds_since(at) < WARNING_INTERVAL);
    expires.seconds_since(now) < EXPIRES_SOON && !was_told
}

impl State {
    /// Only what is the same in two looks is told, and once.
    pub(super) fn next<T>(&self, look: &Look<T>) -> Self {
        match (self, look) {
            (_, Look::Same | Look::New(_)) => Self::Good,
            (Self::Good, Look::Bad(unusable)) => Self::Doubtful(unusable.clone()),
            (Self::Doubtful(before) | Self::Bad(before), Look::Bad(unusable))
                if before == unusable =>
            {
                Self::Bad(unusable.clone())
            }
            (Self::Doubtful(_) | Self::Bad(_), Look::Bad(unusable)) => {
                Self::Doubtful(unusable.clone())
            }
        }
    }
}

impl<T> std::fmt::Debug for InUse<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("InUse");
        shown.field("expires", &self.loaded.expires);
        shown.finish_non_exhaustive()
    }
}
