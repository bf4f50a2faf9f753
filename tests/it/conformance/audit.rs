//! The audit log, and the last uses of keys.

use serde_json::Value;
use store::Timestamp;
use store::audit::{Action, By, Day, Entry, MOST_ENTRIES, MOST_FETCHES, MOST_STRANGERS, Outcome};
use store_writer::writer::AuditRecord;

use super::*;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_795_953_600_000 + millis)
}

fn entry(millis: i64) -> Entry {
    Entry::new(at(millis), Action::KeyCreated, By::Operator).with(millis.to_string())
}

fn details(entries: &[Value]) -> Vec<&str> {
    entries
        .iter()
        .map(|it| it["detail"].as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_log_is_read_newest_first_and_repeats_nothing() {
    on_all(|store| async move {
        let writer = &store.writer;
        assert!(writer.audit(10).await.unwrap().is_empty());
        let records: Vec<AuditRecord> = [2, 1, 3].map(|it| entry(it).into()).into();
        // A gateway that gets no answer reports again.
        for _ in 0..2 {
            writer.append_audit(&records).await.unwrap();
        }
        let read = writer.audit(10).await.unwrap();
        assert_eq!(details(&read), ["3", "2", "1"]);
        assert_eq!(read[0]["at"], "2026-11-29T12:00:00.003Z");
        assert_eq!(details(&writer.audit(2).await.unwrap()), ["3", "2"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counted_entry_replaces_its_earlier_form() {
    on_all(|store| async move {
        let writer = &store.writer;
        let first = entry(1);
        let whole = Entry {
            count: 7,
            ..first.clone()
        };
        let replacing = AuditRecord {
            entry: whole,
            replaces: Some(first.clone()),
            is_reported: false,
        };
        writer.append_audit(&[first.clone().into()]).await.unwrap();
        for _ in 0..2 {
            writer
                .append_audit(std::slice::from_ref(&replacing))
                .await
                .unwrap();
            let read = writer.audit(10).await.unwrap();
            assert_eq!((read.len(), &read[0]["count"]), (1, &7.into()));
        }
        // The earlier form may come late. The later one counts.
        writer.append_audit(&[first.into()]).await.unwrap();
        let read = writer.audit(10).await.unwrap();
        assert_eq!((read.len(), &read[0]["count"]), (1, &7.into()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fetches_and_strangers_push_no_other_entries_out() {
    on_all(|store| async move {
        let writer = &store.writer;
        let most = i64::try_from(MOST_ENTRIES).unwrap();
        let all: Vec<AuditRecord> = (0..most + 300).map(|it| entry(it).into()).collect();
        for records in all.chunks(1000) {
            writer.append_audit(records).await.unwrap();
        }
        let strangers: Vec<AuditRecord> = (0..2000)
            .map(|millis| {
                let refused = Action::RequestRefused;
                let entry = Entry::new(at(most + 1000 + millis), refused, By::Anonymous);
                let outcome = Outcome::Refused;
                Entry { outcome, ..entry }.with("stranger").into()
            })
            .collect();
        writer.append_audit(&strangers).await.unwrap();
        let fetch =
            |millis| Entry::new(at(most + 4000 + millis), Action::TokenFetched, By::Operator);
        let fetches: Vec<AuditRecord> = (0..most + 300).map(|it| fetch(it).into()).collect();
        for records in fetches.chunks(1000) {
            writer.append_audit(records).await.unwrap();
        }
        let read = writer.audit(usize::MAX).await.unwrap();
        let count = |action: &str| read.iter().filter(|it| it["action"] == action).count();
        assert_eq!(count("request_refused"), MOST_STRANGERS);
        assert_eq!(count("token_fetched"), MOST_FETCHES);
        let is_other =
            |it: &Value| it["action"] != "request_refused" && it["action"] != "token_fetched";
        let kept: Vec<Value> = read.into_iter().filter(is_other).collect();
        assert_eq!(kept.len(), MOST_ENTRIES);
        let kept = details(&kept);
        assert_eq!(kept.first(), Some(&(most + 299).to_string().as_str()));
        assert_eq!(kept.last(), Some(&"300"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn last_use_of_a_key_never_goes_back() {
    on_all(|store| async move {
        let writer = &store.writer;
        assert!(writer.key_uses().await.unwrap().is_empty());
        writer.record_key_uses(Vec::new()).await.unwrap();
        let [one, two] = ["one", "two"].map(KeyHash::of);
        let day = |text: &str| text.parse::<Day>().unwrap();
        for uses in [
            vec![(one, day("2026-11-28")), (two, day("2026-11-29"))],
            vec![(one, day("2026-11-30")), (two, day("2026-11-28"))],
        ] {
            writer.record_key_uses(uses).await.unwrap();
        }
        let uses = writer.key_uses().await.unwrap();
        assert_eq!(uses[&one], day("2026-11-30"));
        assert_eq!(uses[&two], day("2026-11-29"));
    })
    .await;
}
