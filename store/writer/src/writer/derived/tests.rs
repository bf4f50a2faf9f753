use super::*;
use crate::writer::tests::Fixture;

#[tokio::test]
async fn unknown_locations_get_half_of_an_agencys_calls() {
    let fixture = Fixture::new();
    let now = Timestamp::of_this_machine();
    let count = async |purpose: CallPurpose, now: Timestamp| {
        let counted = fixture.writer.count_agency_call("C", purpose, now);
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
    // Another agency has its own calls.
    let other = fixture
        .writer
        .count_agency_call("D", CallPurpose::Unknown, now);
    assert_eq!(other.await.unwrap(), AgencyCall::Now);
}
