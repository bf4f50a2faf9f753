//! GHL's webhooks are forwarded as they are.

use store::Timestamp;

use super::*;
use crate::webhooks::{Ghl, iso};

fn bodies(receiver: &Receiver) -> Vec<String> {
    let taken = receiver.taken();
    let bodies = taken
        .iter()
        .map(|it| String::from_utf8(it.body.to_vec()).unwrap());
    let mut bodies: Vec<String> = bodies.collect();
    bodies.sort();
    bodies
}

async fn until_bodies(receiver: &Receiver, expected: &[&String]) {
    let mut expected: Vec<String> = expected.iter().map(|it| (*it).clone()).collect();
    expected.sort();
    until(&format!("{expected:?}"), PATIENCE, || async {
        let seen = bodies(receiver);
        holds(seen == expected, seen)
    })
    .await;
}

/// A webhook with odd spaces, which a parser would not keep.
fn webhook(kind: &str, webhook: &str, more: &str) -> String {
    let at = iso(Timestamp::of_this_machine());
    format!(
        "{{ \"type\" : \"{kind}\",\t\"webhookId\": \"{webhook}\", \"timestamp\": \"{at}\", \"name\": \"Zo\\u00eb\"{more} }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_of_known_accounts_are_forwarded_byte_for_byte() {
    let (all, contacts, of_b) = (
        Receiver::start().await,
        Receiver::start().await,
        Receiver::start().await,
    );
    let settings = Settings::new(&[
        all.section("webhooks", "all", ""),
        contacts.section("webhooks", "contacts", "types = [\"ContactCreate\"]"),
        of_b.section("webhooks", "of-b", "locations = [\"locB\"]"),
    ]);
    let ghl = Ghl::with(&[("EVERGREEN_CONFIG", &settings.path())]).await;
    ghl.up.install("locA").await;
    ghl.up.install("locB").await;
    let of = |location: &str| format!(", \"locationId\": \"{location}\"");
    let contact_a = webhook("ContactCreate", "w1", &of("locA"));
    let contact_b = webhook("ContactCreate", "w2", &of("locB"));
    let note_a = webhook("NoteCreate", "w3", &of("locA"));
    let install = webhook(
        "INSTALL",
        "w4",
        &format!(", \"appId\": \"sandbox\"{}", of("locA")),
    );
    let no_type = format!("{{\"webhookId\": \"w5\"{}}}", of("locB"));
    let unknown = webhook("ContactCreate", "w6", &of("locX"));
    let foreign = webhook(
        "ContactCreate",
        "w7",
        &format!(", \"appId\": \"else\"{}", of("locA")),
    );
    let unsigned = webhook("ContactCreate", "w8", &of("locA"));
    for body in [
        &contact_a, &unknown, &foreign, &contact_b, &note_a, &install, &no_type,
    ] {
        let (status, answer) = ghl.tell(body).await;
        assert_eq!(status, 200, "{body}: {answer}");
    }
    let wrong = ghl.sign(&contact_a);
    let (status, _) = ghl.post(&unsigned, &[("x-ghl-signature", &wrong)]).await;
    assert_eq!(status, 401);
    // GHL sends one again whose answer it has not got. The receiver knows it by its id.
    assert_eq!(ghl.tell(&note_a).await.0, 200);
    // It comes last in its queue.
    let uninstall = webhook(
        "UNINSTALL",
        "w9",
        &format!(", \"appId\": \"sandbox\"{}", of("locA")),
    );
    assert_eq!(ghl.tell(&uninstall).await.0, 200);

    let every = [
        &contact_a, &contact_b, &note_a, &note_a, &install, &no_type, &uninstall,
    ];
    until_bodies(&all, &every).await;
    until_bodies(&contacts, &[&contact_a, &contact_b]).await;
    until_bodies(&of_b, &[&contact_b, &no_type]).await;
    for one in all.taken() {
        one.verify();
        let body = String::from_utf8(one.body.to_vec()).unwrap();
        assert_eq!(one.header("x-ghl-signature"), ghl.sign(&body));
        assert_eq!(one.header("content-type"), "application/json");
        assert_eq!(one.headers.get("authorization"), None);
    }
    let taken = all.taken();
    let of_a: Vec<_> = taken
        .iter()
        .filter(|it| it.json()["locationId"] == "locA")
        .map(|it| it.json()["webhookId"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(of_a, ["w1", "w3", "w4", "w3", "w9"], "in order");
    let repeated: Vec<_> = taken
        .iter()
        .filter(|it| it.json()["webhookId"] == "w3")
        .map(Received::id)
        .collect();
    assert_eq!(repeated[0], repeated[1]);

    // They were handled, too.
    let url = format!("{}/v1/installations/locA", ghl.up.internal);
    let (_, shown) = get(&ghl.up.client, &url).await;
    assert_eq!(shown["tokenStatus"], "revoked", "{shown}");
}
