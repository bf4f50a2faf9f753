use std::time::Duration;

use store::{InstallationId, Timestamp};

use crate::writer::tests::{Fixture, registration};

#[tokio::test]
async fn only_the_events_of_the_installation_are_read_and_the_newest_first() {
    let fixture = Fixture::new();
    let writer = &fixture.writer;
    let id = writer.register_installation(&registration("L")).await;
    let id = id.unwrap();
    let other = writer.register_installation(&registration("M")).await;
    let other = other.unwrap();
    let later = Timestamp::of_this_machine() + Duration::from_secs(1);
    writer.revoke(&id, "for a test", later).await.unwrap();
    let about = writer.newest_events_about(&id, 9).await.unwrap();
    let kinds: Vec<&str> = about.events.iter().map(|it| it.kind.as_str()).collect();
    assert_eq!(
        kinds,
        ["installation.uninstalled", "installation.connected"]
    );
    assert_eq!(about.looked_back_to, None);
    let newest = writer.newest_events_about(&id, 1).await.unwrap();
    assert_eq!(newest.events.len(), 1);
    assert_eq!(newest.events[0].kind, "installation.uninstalled");
    let others = writer.newest_events_about(&other, 9).await.unwrap();
    assert_eq!(others.events.len(), 1);
    let nobody = writer
        .newest_events_about(&InstallationId::random(), 9)
        .await;
    assert!(nobody.unwrap().events.is_empty());
}
