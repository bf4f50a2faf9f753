use secrecy::ExposeSecret;

use super::*;
use crate::grant::Fingerprint;
use crate::writer::tests::{Fixture, registration};

#[tokio::test]
async fn unknown_locations_get_half_of_an_agencys_calls() {
    let fixture = Fixture::new();
    let now = Timestamp::of_this_machine();
    let count = async |purpose: CallPurpose, now: Timestamp| {
        let company = "C".parse().unwrap();
        let agency = (&AppName::default(), &company);
        let counted = fixture.writer.count_agency_call(agency, purpose, now);
        counted.await.unwrap()
    };
    let later = AgencyCall::Later(WINDOW);
    for _ in 0..CALLS_FOR_UNKNOWN {
        assert_eq!(count(CallPurpose::Unknown, now).await, AgencyCall::Now);
    }
    assert_eq!(count(CallPurpose::Unknown, now).await, later);
    for _ in CALLS_FOR_UNKNOWN..CALLS_PER_WINDOW {
        assert_eq!(count(CallPurpose::Known, now).await, AgencyCall::Now);
    }
    assert_eq!(count(CallPurpose::Known, now).await, later);
    assert_eq!(count(CallPurpose::Unknown, now).await, later);
    let after = now + WINDOW;
    assert_eq!(count(CallPurpose::Unknown, after).await, AgencyCall::Now);
    // Another agency has its own calls, and so has the agency under another app.
    let (default, staging) = (AppName::default(), "staging".parse().unwrap());
    for (app, company) in [(&default, "D"), (&staging, "C")] {
        let company = company.parse().unwrap();
        let other = fixture
            .writer
            .count_agency_call((app, &company), CallPurpose::Unknown, now);
        assert_eq!(other.await.unwrap(), AgencyCall::Now);
    }
}

#[tokio::test]
async fn mint_without_a_refresh_token_keeps_the_earlier_one() {
    let writer = Fixture::new().writer;
    let known = AgencyLocation {
        parent: InstallationId::random(),
        app: AppName::default(),
        client: None,
        company: "C".parse().unwrap(),
        location: "L".parse().unwrap(),
        at: Timestamp::of_this_machine(),
    };
    let with = registration("L");
    let without = Registration {
        refresh_token: None,
        ..registration("L")
    };
    let mut generation = Generation::FIRST;
    let mut consents = Vec::new();
    for minted in [&with, &without, &without] {
        let (id, outcome) = writer.store_minted(&known, minted).await.unwrap();
        assert_eq!(outcome, MintOutcome::Stored(generation));
        let record = writer.load(&id).await.unwrap().unwrap().installation;
        let chain = record.chain.unwrap();
        let label = refresh_label(&id, generation);
        let ring = &writer.rings().refresh;
        let opened = ring.open_token(label, &chain.refresh_token).unwrap();
        assert_eq!(opened.expose_secret(), "r");
        assert_eq!(chain.fingerprint, Fingerprint::of(&opened));
        consents.push(chain.consent);
        generation = generation.next();
    }
    assert_eq!(consents[0], consents[2], "the chain goes on");
}
