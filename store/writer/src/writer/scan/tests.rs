use std::time::Duration;

use store::InstallationId;

use super::Scanned;
use crate::writer::tests::{Fixture, registration};
use crate::writer::{Listed, StoreWriter};

const LONG: Duration = Duration::from_secs(600);

async fn fill(writer: &StoreWriter, count: usize) -> Vec<InstallationId> {
    let mut ids = Vec::new();
    for number in 0..count {
        let registered = registration(&format!("L{number}"));
        ids.push(writer.register_installation(&registered).await.unwrap());
    }
    ids.sort_unstable();
    ids
}

/// Whether its location ends so.
fn ends_with(entry: &Listed, digit: char) -> bool {
    match entry {
        Listed::Readable(it) => {
            let location = it.installation.access.location.as_ref();
            location.is_some_and(|location| location.as_str().ends_with(digit))
        }
        Listed::Unreadable { .. } => false,
    }
}

/// All pages of a scan, and how many pages there were.
async fn all(
    writer: &StoreWriter,
    (limit, budget): (usize, Duration),
    is_wanted: impl Fn(&Listed) -> bool,
) -> (Vec<InstallationId>, u64, usize) {
    let (mut found, mut seen, mut pages) = (Vec::new(), 0, 0);
    let mut after = None;
    loop {
        let scanned = writer.scan(after.as_ref(), limit, budget, &is_wanted).await;
        let Scanned {
            found: some,
            seen: more,
            next,
        } = scanned.unwrap();
        assert!(some.len() <= limit);
        found.extend(some.iter().map(|it| it.id().clone()));
        seen += more;
        pages += 1;
        assert!(pages < 1000, "it ends");
        let Some(next) = next else {
            return (found, seen, pages);
        };
        after = Some(next);
    }
}

#[tokio::test]
async fn pages_have_each_wanted_installation_once_and_in_order() {
    let fixture = Fixture::new();
    let ids = fill(&fixture.writer, 150).await;
    let (found, seen, _) = all(&fixture.writer, (7, LONG), |_| true).await;
    assert_eq!((found, seen), (ids, 150));
    let wanted = |entry: &Listed| ends_with(entry, '3');
    let (found, seen, pages) = all(&fixture.writer, (4, LONG), wanted).await;
    assert_eq!((found.len(), seen), (15, 150));
    assert!(found.is_sorted() && pages >= 4);
}

#[tokio::test]
async fn scan_without_time_looks_at_some_and_says_where_it_ended() {
    let fixture = Fixture::new();
    fill(&fixture.writer, 150).await;
    let nobody = |_: &Listed| false;
    let first = fixture.writer.scan(None, 10, Duration::ZERO, nobody).await;
    let first = first.unwrap();
    assert!(first.found.is_empty() && first.seen > 0 && first.seen < 150);
    assert!(first.next.is_some());
    let (found, seen, pages) = all(&fixture.writer, (10, Duration::ZERO), nobody).await;
    assert_eq!((found.len(), seen), (0, 150), "it still sees all");
    assert!(pages > 1);
}
