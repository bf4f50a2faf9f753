//! Events and the outbox: written with the change, in order for each installation, claimed by one broker.

use store_writer::events::{Event, EventType};
use store_writer::outbox::{EventPosition, QueueCount, Settlement, Subject, Subscriber};

use super::*;

const ENDPOINT: &str = "crm";
const CLAIM: Duration = Duration::from_secs(600);

/// An endpoint that wants every event.
fn subscribe(store: &Store) {
    store.writer.subscribers().set(vec![Subscriber {
        endpoint: ENDPOINT.to_owned(),
        wants: Box::new(|_| true),
    }]);
}

fn kinds(messages: &[String]) -> Vec<String> {
    let parse = |json: &String| serde_json::from_str::<Event>(json).unwrap();
    messages.iter().map(|json| parse(json).kind).collect()
}

async fn claimed(store: &Store) -> Vec<Subject> {
    let all: Vec<u8> = (0..=u8::MAX).collect();
    claimed_in(store, &all).await
}

async fn claimed_in(store: &Store, partitions: &[u8]) -> Vec<Subject> {
    let poll = store.writer.poll_deliveries(ENDPOINT, partitions).await;
    let poll = poll.unwrap();
    let mut subjects = Vec::new();
    for (partition, by) in poll.due {
        let due = DueEntries {
            partition,
            limit: 10,
            from: None,
            by,
        };
        let taken = store.writer.claim_deliveries(ENDPOINT, due, CLAIM).await;
        subjects.extend(taken.unwrap());
    }
    subjects
}

#[tokio::test(flavor = "multi_thread")]
async fn change_and_its_event_are_one_write() {
    on_all(|store| async move {
        subscribe(&store);
        let id = register(&store, "L1", Duration::from_secs(3600)).await;
        let now = store.reader.now();
        store.writer.revoke(&id, "uninstalled", now).await.unwrap();
        let again = register(&store, "L1", Duration::from_secs(3600)).await;
        assert_eq!(again, id);
        let subject = Subject::installation(&id);
        let queued = store.writer.queued(ENDPOINT, &subject, 10).await.unwrap();
        let expected = [
            "installation.connected",
            "installation.uninstalled",
            "installation.reconnected",
        ];
        assert_eq!(kinds(&queued.messages), expected);
        let ended: Event = serde_json::from_str(&queued.messages[1]).unwrap();
        let ended = ended.installation.unwrap();
        assert_eq!(ended.reason.as_deref(), Some("uninstalled"));
        assert_eq!(ended.location_id.unwrap().as_str(), "L1");

        let listed = store.writer.newest_events(2).await.unwrap();
        let listed: Vec<String> = listed.into_iter().map(|event| event.json).collect();
        assert_eq!(kinds(&listed), [expected[2], expected[1]]);
        let all = until("the events are settled", PATIENCE, async || {
            let all = store.writer.events(EventPosition::default(), 10).await;
            let all = all.unwrap();
            match all.len() {
                3 => Ok(all),
                others => Err(format!("{others} events")),
            }
        })
        .await;
        let rest = store.writer.events(all[0].position, 1).await.unwrap();
        assert_eq!(rest, all[1..2]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_is_claimed_once_and_delivered_in_order() {
    on_all(|store| async move {
        subscribe(&store);
        let id = register(&store, "L1", Duration::from_secs(3600)).await;
        let subject = Subject::installation(&id);
        assert_eq!(claimed(&store).await, std::slice::from_ref(&subject));
        assert_eq!(claimed(&store).await, [], "another broker has it");
        let now = store.reader.now();
        store.writer.revoke(&id, "uninstalled", now).await.unwrap();
        assert_eq!(claimed(&store).await, [], "a new message ends no claim");

        let settle = async |settlement: Settlement, pause| {
            let settled = store.writer.settle(ENDPOINT, &subject, &settlement, pause);
            settled.await.unwrap();
            store.writer.queued(ENDPOINT, &subject, 10).await.unwrap()
        };
        let failed = Settlement::Failed {
            attempts: "1".to_owned(),
        };
        let queued = settle(failed, CLAIM).await;
        assert_eq!(queued.attempts.as_deref(), Some("1"));
        assert_eq!(queued.messages.len(), 2);
        assert_eq!(
            store
                .writer
                .count_deliveries(ENDPOINT)
                .await
                .unwrap()
                .failing,
            1
        );
        assert_eq!(claimed(&store).await, [], "it is tried again later");
        let hasten = async |beyond| {
            let hastened = store.writer.hasten_deliveries(ENDPOINT, beyond).await;
            hastened.unwrap();
        };
        hasten(CLAIM).await;
        assert_eq!(claimed(&store).await, [], "it may be claimed");
        hasten(CLAIM / 2).await;
        let others: Vec<u8> = (0..=u8::MAX).filter(|it| *it != id.partition()).collect();
        assert_eq!(claimed_in(&store, &others).await, []);
        let own = [id.partition()];
        assert_eq!(
            claimed_in(&store, &own).await,
            std::slice::from_ref(&subject)
        );

        let first = queued.messages[0].clone();
        let queued = settle(Settlement::Delivered(first.clone()), Duration::ZERO).await;
        assert_eq!(kinds(&queued.messages), ["installation.uninstalled"]);
        assert_eq!(queued.attempts, None);
        let queued = settle(Settlement::Delivered(first), Duration::ZERO).await;
        assert_eq!(queued.messages.len(), 1, "a repetition removes nothing");
        assert_eq!(claimed(&store).await, std::slice::from_ref(&subject));

        let last = Settlement::Dead {
            message: queued.messages[0].clone(),
            letter: "a letter".to_owned(),
        };
        let queued = settle(last, Duration::ZERO).await;
        assert!(queued.messages.is_empty());
        let letters = store.writer.dead_letters(ENDPOINT, 5).await.unwrap();
        assert_eq!(letters, ["a letter"]);
        let others = store.writer.dead_letters("alerts", 5).await.unwrap();
        assert!(others.is_empty());
        let count = store.writer.count_deliveries(ENDPOINT).await.unwrap();
        let expected = QueueCount {
            dead_letters: 1,
            ..QueueCount::default()
        };
        assert_eq!(count, expected);
        assert_eq!(claimed(&store).await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn event_about_an_app_is_listed_and_queued_too() {
    on_all(|store| async move {
        subscribe(&store);
        let now = store.reader.now();
        let kind = EventType::CredentialsRejected;
        let event = Event::about_app(AppName::default(), kind, Some("wrong".into()), now);
        store.writer.publish_event(&event).await.unwrap();
        let listed = store.writer.newest_events(5).await.unwrap();
        assert_eq!(listed.len(), 1);
        let stored: Event = serde_json::from_str(&listed[0].json).unwrap();
        assert_eq!(stored, event);
        assert_eq!(claimed(&store).await.len(), 1);
    })
    .await;
}

/// Puts a message about a subject into the queue.
async fn publish(store: &Store, subject: &str, message: String) {
    let (subject, endpoints) = (Subject::of_name(subject), vec![ENDPOINT.to_owned()]);
    let published = store.writer.publish(&subject, message, endpoints).await;
    published.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_counted_and_a_full_endpoint_gets_none() {
    on_all(|store| async move {
        let waiting = async || {
            let count = store.writer.count_deliveries(ENDPOINT).await;
            count.unwrap().messages
        };
        for number in 0..6 {
            let (subject, message) = (format!("s{}", number % 3), format!("m{number}"));
            publish(&store, &subject, message).await;
        }
        assert_eq!(waiting().await, 6);
        let backlog = store.writer.subscribers().backlog(ENDPOINT);
        backlog.set_full(true);
        publish(&store, "s0", "dropped".to_owned()).await;
        assert_eq!((waiting().await, backlog.take_dropped()), (6, 1));
        backlog.set_full(false);
        publish(&store, "s0", "last".to_owned()).await;
        let subject = Subject::named("s0");
        assert_eq!(backlog.take_partitions(), [subject.partition]);
        let queued = store.writer.queued(ENDPOINT, &subject, 9).await.unwrap();
        assert_eq!(queued.messages, ["m0", "m3", "last"]);
        for message in queued.messages {
            let delivered = Settlement::Delivered(message);
            for _ in 0..2 {
                let pause = Duration::ZERO;
                let settled = store.writer.settle(ENDPOINT, &subject, &delivered, pause);
                settled.await.unwrap();
            }
        }
        assert_eq!(waiting().await, 4);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oldest_dead_letters_go_first() {
    on_all(|store| async move {
        let count = 40;
        for number in 0..count {
            // Some in each of a few partitions, also within a millisecond.
            let subject = Subject::named(&format!("s{}", number % 7));
            let dead = Settlement::Dead {
                message: String::new(),
                letter: format!("letter {number}"),
            };
            let settled = store.writer.settle(ENDPOINT, &subject, &dead, CLAIM).await;
            settled.unwrap();
        }
        let writer = &store.writer;
        let oldest = writer.oldest_dead_letters(ENDPOINT, 3).await.unwrap();
        let first = writer.oldest_dead_letters(ENDPOINT, 1).await.unwrap();
        assert_eq!(oldest[..1], first);
        let newest = writer.dead_letters(ENDPOINT, 100).await.unwrap();
        assert_eq!(newest.len(), count);
        assert_eq!(newest.last(), Some(&oldest[0].json));
        writer
            .remove_dead_letter(ENDPOINT, &oldest[1])
            .await
            .unwrap();
        writer.forget_dead_letters(ENDPOINT, 5).await.unwrap();
        let left = writer.dead_letters(ENDPOINT, 100).await.unwrap();
        // Those of one millisecond go together.
        assert!((count - 12..=count - 6).contains(&left.len()), "{left:?}");
        assert_eq!(left[..], newest[..left.len()]);
    })
    .await;
}
