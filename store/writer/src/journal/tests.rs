use store::Generation;

use super::*;
use crate::factory::scratch_directory;

const NO_LIMIT: u64 = u64::MAX;

fn entry(answer: Option<&[u8]>) -> Entry {
    Entry {
        intent: IntentId::random(),
        installation: InstallationId::random(),
        spent_generation: Generation::FIRST,
        lease: None,
        answer: answer.map(|bytes| Sealed::from_bytes(bytes.to_vec())),
        is_quarantined: false,
    }
}

/// The response to the successor of `previous`'s token.
fn successor(previous: &Entry) -> Entry {
    Entry {
        intent: IntentId::random(),
        spent_generation: previous.spent_generation.next(),
        ..previous.clone()
    }
}

fn open(directory: &Path) -> Journal {
    Journal::open(directory, NO_LIMIT).unwrap()
}

async fn confirm(journal: &Journal, entry: &Entry) {
    journal.note(entry).await.unwrap();
    journal.confirm(entry, Standing::Current).await.unwrap();
}

fn confirmed_intents(journal: &Journal) -> Vec<IntentId> {
    let all = journal.confirmed(None, usize::MAX).unwrap();
    all.into_iter()
        .map(|confirmed| confirmed.entry.intent)
        .collect()
}

#[tokio::test]
async fn unfinished_entries_survive_reopening_and_forgotten_ones_do_not() {
    let directory = scratch_directory();
    let (sent, answered) = (entry(None), entry(Some(b"one\ntwo")));
    let journal = open(&directory);
    assert!(journal.unfinished().unwrap().is_empty());
    for entry in [&sent, &answered] {
        journal.note(entry).await.unwrap();
    }
    journal.forget(&sent.intent).await.unwrap();
    drop(journal);
    let journal = reopen(&directory).await;
    let unfinished = journal.unfinished().unwrap();
    let [Ok(found)] = unfinished.as_slice() else {
        panic!("one entry is left, not {unfinished:?}");
    };
    assert_eq!(found.intent, answered.intent);
    assert_eq!(found.answer, answered.answer);
}

#[tokio::test]
async fn confirmed_response_is_retained_until_its_successor_is_confirmed() {
    let directory = scratch_directory();
    let journal = open(&directory);
    let (first, other) = (entry(Some(b"first")), entry(Some(b"other")));
    confirm(&journal, &first).await;
    confirm(&journal, &other).await;
    assert!(journal.unfinished().unwrap().is_empty());
    let second = successor(&first);
    journal.note(&second).await.unwrap();
    assert_eq!(
        confirmed_intents(&journal).len(),
        2,
        "written is not confirmed"
    );
    drop(journal);
    let journal = reopen(&directory).await;
    let found = journal.confirmed_of(&first.installation).unwrap().unwrap();
    assert_eq!(found.entry.intent, first.intent);
    assert_eq!(found.entry.answer, first.answer);
    journal.confirm(&second, Standing::Current).await.unwrap();
    let found = journal.confirmed_of(&first.installation).unwrap().unwrap();
    assert_eq!(found.entry.intent, second.intent);
    let mut left = confirmed_intents(&journal);
    left.sort_unstable_by_key(ToString::to_string);
    let mut wanted = vec![second.intent.clone(), other.intent.clone()];
    wanted.sort_unstable_by_key(ToString::to_string);
    assert_eq!(left, wanted);
}

#[tokio::test]
async fn older_response_or_alternate_does_not_replace_the_current_one() {
    let journal = open(&scratch_directory());
    let first = entry(Some(b"first"));
    let second = successor(&first);
    confirm(&journal, &second).await;
    confirm(&journal, &first).await;
    let sibling = Entry {
        intent: IntentId::random(),
        ..second.clone()
    };
    let alternate = journal.confirm(&sibling, Standing::Alternate);
    alternate.await.unwrap();
    assert_eq!(confirmed_intents(&journal), [second.intent]);
    assert!(journal.unfinished().unwrap().is_empty());
}

#[tokio::test]
async fn attempt_without_response_is_not_retained() {
    let journal = open(&scratch_directory());
    let sent = entry(None);
    confirm(&journal, &sent).await;
    assert!(confirmed_intents(&journal).is_empty());
    assert!(!journal.holds_answers().unwrap());
}

#[tokio::test]
async fn confirmed_responses_expire_after_a_day_and_unconfirmed_ones_never() {
    let journal = open(&scratch_directory());
    let (old, waiting) = (entry(Some(b"old")), entry(Some(b"waiting")));
    confirm(&journal, &old).await;
    journal.note(&waiting).await.unwrap();
    let confirmed_at = journal.now();
    journal
        .prune(confirmed_at + CONFIRMED_TTL / 2)
        .await
        .unwrap();
    assert_eq!(
        confirmed_intents(&journal),
        std::slice::from_ref(&old.intent)
    );
    assert!(journal.holds_answers().unwrap());
    let later = confirmed_at + CONFIRMED_TTL + Duration::from_secs(1);
    journal.prune(later).await.unwrap();
    assert!(confirmed_intents(&journal).is_empty());
    assert_eq!(journal.unfinished().unwrap().len(), 1);
}

#[tokio::test]
async fn oldest_confirmed_responses_are_dropped_above_the_limit() {
    let directory = scratch_directory();
    let limit = 100_000;
    let journal = Journal::open(&directory, limit).unwrap();
    let waiting = entry(Some(&[0; 10_000]));
    journal.note(&waiting).await.unwrap();
    let mut all = Vec::new();
    for _ in 0..20 {
        let entry = entry(Some(&[0; 4_800]));
        confirm(&journal, &entry).await;
        all.push(entry.intent);
        // Wait for the next millisecond, so that the order is defined.
        let at = journal.now();
        while journal.now() == at {
            std::hint::spin_loop();
        }
    }
    all.reverse();
    assert_eq!(
        confirmed_intents(&journal),
        all[..9],
        "10 kB each, and their keys"
    );
    assert_eq!(journal.unfinished().unwrap().len(), 1);
    drop(journal);
    let journal = reopen_within(&directory, limit / 2).await;
    journal.prune(journal.now()).await.unwrap();
    assert_eq!(
        confirmed_intents(&journal),
        all[..4],
        "a limit that was lowered"
    );
}

#[tokio::test]
async fn pages_are_complete_and_newest_first() {
    let journal = open(&scratch_directory());
    let mut all = Vec::new();
    for _ in 0..25 {
        let entry = entry(Some(b"answer"));
        confirm(&journal, &entry).await;
        all.push(entry.intent);
    }
    let (mut paged, mut dates, mut cursor) = (Vec::new(), Vec::new(), None);
    loop {
        let page = journal.confirmed(cursor.as_ref(), 4).unwrap();
        let Some(last) = page.last() else { break };
        cursor = Some(last.cursor());
        dates.extend(page.iter().map(|confirmed| confirmed.confirmed_at));
        paged.extend(page.into_iter().map(|confirmed| confirmed.entry.intent));
    }
    assert!(dates.is_sorted_by(|newer, older| newer >= older));
    let sorted = |mut intents: Vec<IntentId>| {
        intents.sort_unstable_by_key(ToString::to_string);
        intents
    };
    assert_eq!(sorted(paged), sorted(all));
}

#[tokio::test]
async fn journal_of_an_earlier_version_is_read() {
    let directory = scratch_directory();
    let intent = IntentId::random();
    let id = InstallationId::random();
    {
        let file = redb::Database::create(directory.join("journal.redb")).unwrap();
        let writing = file.begin_write().unwrap();
        let mut table = writing.open_table(ATTEMPTS).unwrap();
        let head = format!(r#"{{"installation":"{id}","spent_generation":3}}"#);
        let answered = [head.as_bytes(), b"\n", b"sealed"].concat();
        table.insert(intent.as_str(), answered.as_slice()).unwrap();
        drop(table);
        writing.commit().unwrap();
    }
    let journal = open(&directory);
    let unfinished = journal.unfinished().unwrap();
    let [Ok(found)] = unfinished.as_slice() else {
        panic!("one entry, not {unfinished:?}");
    };
    assert_eq!((&found.intent, &found.installation), (&intent, &id));
    assert_eq!(found.answer, Some(Sealed::from_bytes(b"sealed".to_vec())));
    assert!(journal.holds_answers().unwrap());
    assert!(journal.confirmed(None, 10).unwrap().is_empty());
    assert_eq!(journal.store_id().unwrap(), None);
    journal.confirm(found, Standing::Current).await.unwrap();
    assert_eq!(confirmed_intents(&journal), [intent]);
}

#[tokio::test]
async fn store_id_and_servers_survive_reopening() {
    let directory = scratch_directory();
    let journal = open(&directory);
    let (id, servers) = (StoreId::random(), Servers::one("run", "replication"));
    assert_eq!(journal.servers().unwrap(), None);
    journal.set_store_id(&id).await.unwrap();
    journal.set_servers(&servers).await.unwrap();
    drop(journal);
    let journal = reopen(&directory).await;
    assert_eq!(journal.store_id().unwrap(), Some(id));
    assert_eq!(journal.servers().unwrap(), Some(servers));
}

#[test]
fn clock_never_starts_before_the_newest_entry() {
    let ahead = Timestamp::of_this_machine() + Duration::from_secs(3600);
    assert!(clock(Some(ahead)).now() >= ahead);
    assert!(clock(None).now() < ahead);
}

#[tokio::test]
async fn second_process_gets_in_use_error() {
    let directory = scratch_directory();
    let _first = open(&directory);
    let second = Journal::open(&directory, NO_LIMIT);
    assert!(matches!(second, Err(DbError::InUse { .. })), "{second:?}");
}

async fn reopen(directory: &Path) -> Journal {
    reopen_within(directory, NO_LIMIT).await
}

/// The previous owner's thread releases the file shortly after the handle is dropped.
async fn reopen_within(directory: &Path, limit: u64) -> Journal {
    loop {
        match Journal::open(directory, limit) {
            Ok(journal) => return journal,
            Err(DbError::InUse { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}
