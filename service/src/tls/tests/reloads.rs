//! Files that change.

use std::os::unix::fs::symlink;
use std::sync::Arc;

use tokio::time::sleep;

use super::super::reload::INTERVAL;
use super::super::validity::Date;
use super::{Ca, Files, SOON, listener};
use crate::shutdown::Shutdown;
use crate::tls::ListenerTls;

struct Watched {
    tls: ListenerTls,
    shutdown: Shutdown,
}

impl Watched {
    fn start(certificate: &str, key: &str) -> Self {
        let settings = [
            ("EVERGREEN_TLS_CERT", certificate),
            ("EVERGREEN_TLS_KEY", key),
        ];
        let tls = listener(&settings).unwrap().unwrap();
        let shutdown = Shutdown::new();
        shutdown.spawn(tls.clone().keep_current(shutdown.clone()));
        Self { tls, shutdown }
    }

    /// A number that differs between one loaded pair and the next.
    fn in_use(&self) -> usize {
        self.tls.loaded()
    }

    /// Waits for this many looks at the files.
    async fn looks(&self, count: u32) {
        sleep(INTERVAL * count + INTERVAL / 2).await;
    }

    async fn stop(self) {
        self.shutdown.start();
        assert!(self.shutdown.finished(SOON).await);
    }
}

#[tokio::test(start_paused = true)]
async fn changed_files_are_used_and_bad_ones_are_not() {
    let files = Files::new();
    let ca = Ca::new("ca");
    let (first, second) = (ca.issue(2020, 2090), ca.issue(2020, 2090));
    files.write_pair(&first);
    let watched = Watched::start(&files.path("cert"), &files.path("key"));
    let before = watched.in_use();

    // In the middle of a change, and then after it.
    files.write("cert", &second.certificate);
    watched.looks(2).await;
    assert_eq!(watched.in_use(), before, "the key is still the first one's");
    files.write("key", &second.key());
    watched.looks(1).await;
    let after = watched.in_use();
    assert_ne!(after, before);

    for (name, content) in [("cert", ""), ("key", "nonsense")] {
        files.write(name, content);
        watched.looks(1).await;
        assert_eq!(watched.in_use(), after, "{name}");
    }
    std::fs::remove_file(files.path("cert")).unwrap();
    watched.looks(1).await;
    assert_eq!(watched.in_use(), after);
    files.write_pair(&ca.issue(2020, 2021));
    watched.looks(1).await;
    assert_eq!(watched.in_use(), after, "an expired one");

    files.write_pair(&first);
    watched.looks(1).await;
    assert_ne!(watched.in_use(), after);
    watched.stop().await;
}

/// A volume of Kubernetes: the files are links through `..data`, which is replaced.
#[tokio::test(start_paused = true)]
async fn replaced_symbolic_link_is_noticed() {
    let files = Files::new();
    let ca = Ca::new("ca");
    let publish = |version: &str| {
        let directory = files.0.join(version);
        std::fs::create_dir(&directory).unwrap();
        let pair = ca.issue(2020, 2090);
        std::fs::write(directory.join("tls.crt"), pair.certificate.as_str()).unwrap();
        std::fs::write(directory.join("tls.key"), pair.key()).unwrap();
        symlink(version, files.0.join("..next")).unwrap();
        std::fs::rename(files.0.join("..next"), files.0.join("..data")).unwrap();
    };
    publish("..v1");
    for name in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), files.0.join(name)).unwrap();
    }
    let watched = Watched::start(&files.path("tls.crt"), &files.path("tls.key"));
    let before = watched.in_use();
    watched.looks(1).await;
    assert_eq!(watched.in_use(), before);
    publish("..v2");
    watched.looks(1).await;
    assert_ne!(watched.in_use(), before);
    watched.stop().await;
}

#[test]
fn only_what_two_looks_find_is_told_and_once() {
    use super::super::reload::{Look, State};
    let bad = |setting| super::super::Unusable {
        setting,
        problem: super::super::files::Problem::NoKey,
    };
    let look = |setting| Look::<Arc<()>>::Bad(bad(setting));
    let first = State::Good.next(&look("A"));
    assert_eq!(first, State::Doubtful(bad("A")));
    let second = first.next(&look("A"));
    assert_eq!(second, State::Bad(bad("A")));
    assert_eq!(second.next(&look("A")), second);
    assert_eq!(first.next(&look("B")), State::Doubtful(bad("B")));
    assert_eq!(second.next(&look("B")), State::Doubtful(bad("B")));
    for state in [first, second] {
        assert_eq!(state.next(&Look::<Arc<()>>::Same), State::Good);
    }
}

#[test]
fn expiry_is_told_three_days_before_and_once_a_day() {
    use super::super::reload::is_warning_due;
    let day = Date::of_day;
    let expires = day(100);
    assert!(!is_warning_due(expires, day(97), None));
    assert!(is_warning_due(expires, day(98), None));
    assert!(!is_warning_due(expires, day(98), Some(day(98))));
    assert!(is_warning_due(expires, day(99), Some(day(98))));
    assert!(is_warning_due(expires, day(101), Some(day(99))));
}
