use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use store::freshness::Lead;
use store::record::{Fields, Unreadable};
use store::seal::KeyRing;
use store::{AppName, Generation, InstallationId, UserType};

use super::*;
use crate::backend::Schedule;
use crate::backend::embedded::EmbeddedBackend;
use crate::consent::{Consent, NewCustomer};
use crate::grant::Registration;

/// A store in a file, and direct access to its backend.
pub(crate) struct Fixture {
    pub(crate) writer: StoreWriter,
    backend: Arc<EmbeddedBackend>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let path = crate::factory::scratch_directory().join("store.redb");
        let backend = Arc::new(EmbeddedBackend::open(&path).unwrap());
        let rings = Rings {
            access: Arc::new(KeyRing::generate("a")),
            refresh: Arc::new(KeyRing::generate("r")),
        };
        let writer = StoreWriter::new(backend.clone(), rings, Lead::Auto);
        Self { writer, backend }
    }

    /// Sets one field of each half.
    async fn damage(&self, id: &InstallationId, access: (&str, &str), refresh: (&str, &str)) {
        let loaded = self.backend.load(id).await.unwrap();
        let fields = |(name, value): (&str, &str)| -> Fields {
            [(name.to_owned(), value.as_bytes().to_vec())]
                .into_iter()
                .collect()
        };
        let swap = Swap {
            id: id.clone(),
            expected: loaded.revision(),
            access: fields(access),
            refresh: fields(refresh),
            removed: Vec::new(),
            keeps_schedule: false,
            schedule: Schedule::Due,
            app: AppName::default(),
            wake_at: None,
            expires_at: None,
            families: Vec::new(),
            event: None,
            announce: None,
        };
        assert!(self.backend.swap(swap).await.unwrap());
    }
}

pub(crate) fn registration(location: &str) -> Registration {
    Registration {
        app: AppName::default(),
        client: None,
        access_token: "a".into(),
        refresh_token: Some("r".into()),
        expires_at: Some(Timestamp::of_this_machine() + Duration::from_secs(60)),
        lifetime: Duration::from_secs(60),
        scopes: String::new(),
        user_type: UserType::Location,
        location: Some(location.parse().unwrap()),
        company: None,
    }
}

#[tokio::test]
async fn consent_replaces_an_unreadable_record() {
    let fixture = Fixture::new();
    let id = fixture
        .writer
        .register_installation(&registration("L"))
        .await
        .unwrap();
    let nothing = ("ignored", "");
    let second = Generation::FIRST.next();
    for (access, refresh, generation) in [
        (("life", "99999999999999999999"), nothing, second),
        (nothing, ("made", "long ago"), second.next()),
        (("min", "99"), ("min", "99"), second.next().next()),
        (nothing, ("alt:x", "damaged"), second.next().next().next()),
        // No readable generation: the next after the first.
        (("gen", "many"), ("intent", "{"), second),
    ] {
        fixture.damage(&id, access, refresh).await;
        let unread = fixture.writer.load(&id).await;
        assert!(
            matches!(unread, Err(WriteError::Unreadable { .. })),
            "{access:?} {refresh:?}"
        );
        assert_eq!(
            fixture
                .writer
                .register_installation(&registration("L"))
                .await
                .unwrap(),
            id
        );
        let read = fixture.writer.load(&id).await.unwrap().unwrap();
        let installation = read.installation;
        assert_eq!(installation.access.generation, generation, "{access:?}");
        assert!(installation.alternates.is_empty() && installation.due.is_some());
    }
}

#[tokio::test]
async fn stored_consent_is_not_stored_again_even_if_the_clock_was_ahead() {
    let fixture = Fixture::new();
    let ahead = Timestamp::of_this_machine() + Duration::from_secs(3600);
    let first = Consent::new(ahead, registration("L"), NewCustomer::default());
    let generation = async |consent: &Consent| {
        let id = fixture.writer.register_consent(consent).await.unwrap();
        let read = fixture.writer.load(&id).await.unwrap().unwrap();
        read.installation.access.generation
    };
    assert_eq!(generation(&first).await, Generation::FIRST);
    // Its token may be spent since.
    assert_eq!(generation(&first).await, Generation::FIRST);
    let second = Consent::new(ahead, registration("L"), NewCustomer::default());
    assert_eq!(generation(&second).await, Generation::FIRST.next());
}

#[tokio::test]
async fn list_shows_an_unreadable_record_among_the_others() {
    let fixture = Fixture::new();
    let mut ids = Vec::new();
    for location in ["L", "M", "N"] {
        ids.push(
            fixture
                .writer
                .register_installation(&registration(location))
                .await
                .unwrap(),
        );
    }
    fixture
        .damage(&ids[1], ("life", "-1"), ("ignored", ""))
        .await;
    let listed = fixture.writer.list(None, 10).await.unwrap();
    assert_eq!(listed.len(), 3);
    for one in &listed {
        let is_unreadable = matches!(one, Listed::Unreadable { .. });
        assert_eq!(is_unreadable, *one.id() == ids[1], "{one:?}");
    }
    assert_eq!(fixture.writer.stats().await.unwrap().installations, 3);
}

#[tokio::test]
async fn record_that_could_not_be_read_back_is_not_written() {
    let fixture = Fixture::new();
    let endless = Registration {
        lifetime: Duration::MAX,
        ..registration("L")
    };
    let refused = fixture
        .writer
        .register_installation(&endless)
        .await
        .unwrap_err();
    let WriteError::Unwritable { id, source } = &refused else {
        panic!("{refused}");
    };
    assert_eq!(*source, Unreadable::Malformed("life"));
    assert!(fixture.writer.load(id).await.unwrap().is_none());
    let id = fixture
        .writer
        .register_installation(&registration("L"))
        .await
        .unwrap();
    assert!(fixture.writer.load(&id).await.unwrap().is_some());
}

#[tokio::test]
async fn token_of_the_settings_replaces_a_newer_one_only_if_the_setting_changes() {
    let writer = Fixture::new().writer;
    let store = async |token: &str, origin: TokenOrigin| {
        let registration = Registration {
            access_token: token.into(),
            refresh_token: None,
            expires_at: None,
            ..registration("L1")
        };
        let (id, is_there) = writer
            .register_static_token(&registration, origin)
            .await
            .unwrap();
        assert!(is_there);
        let stored = writer.load(&id).await.unwrap().unwrap().installation;
        let opened = stored.access.open(&id, &writer.rings().access).unwrap();
        opened.token.expose_secret().to_owned()
    };
    assert_eq!(store("first", TokenOrigin::Settings).await, "first");
    assert_eq!(store("newer", TokenOrigin::Operator).await, "newer");
    assert_eq!(
        store("first", TokenOrigin::Settings).await,
        "newer",
        "a restart"
    );
    assert_eq!(store("changed", TokenOrigin::Settings).await, "changed");
}
