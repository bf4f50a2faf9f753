//! The administration of sealing keys: which key the records need, and the rotation.

use axum::extract::State;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use store::audit::Action;
use store::key_list::{KeyList, RingKind};
use store::seal::KeyRing;
use store_writer::sealing::KeysError;
use store_writer::sealing::list::NotForgotten;
use store_writer::sealing::record::KeyUse;
use tracing::info;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Broker;
use crate::api::error::{Error, ErrorKind};
use crate::api::extract::{JsonBody, QueryString};
use crate::audit::Requester;
use crate::sealing::rotation::Progress;

/// The least records of a page, if there are as many. A page ends with a partition.
const PAGE_SIZE: u64 = 2000;
const PARTITIONS: u16 = store::keys::PARTITIONS;

pub(crate) fn routes() -> OpenApiRouter<Broker> {
    OpenApiRouter::default()
        .routes(routes!(status))
        .routes(routes!(rotation, rotate))
        .routes(routes!(forget))
}

/// A ring of sealing keys.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SealingRing)]
struct RingView {
    /// `access` or `refresh`.
    #[schema(value_type = String)]
    ring: &'static str,
    /// The setting with its keys.
    #[schema(value_type = String)]
    setting: &'static str,
    /// In the order of the ring, and then those that only the store knows.
    keys: Vec<SealingKey>,
}

/// A sealing key, without the key itself.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SealingKey {
    id: String,
    /// Whether new tokens are sealed with it.
    seals: bool,
    /// Whether this broker has it.
    in_ring: bool,
    /// Whether it is lost for good, as the settings say.
    lost: bool,
    /// Its state in the store's list. `null` if it is not in the list.
    #[schema(value_type = Option<String>)]
    state: Option<&'static str>,
    /// The records of the page that need it.
    records: u64,
    /// Those of them that cannot be opened.
    unreadable: u64,
}

/// A page of the count.
#[derive(Serialize, ToSchema)]
#[schema(as = SealCount)]
struct Count {
    rings: Vec<RingView>,
    /// The records of the page.
    records: u64,
    /// Those of them that are no records.
    malformed: u64,
    /// The `from` of the next page. `null` on the last one.
    next: Option<u8>,
    /// The number of partitions.
    partitions: u16,
}

/// A rotation, and the keys.
#[derive(Serialize, ToSchema)]
#[schema(as = Rotation)]
struct RotationView {
    /// `null` if there is none.
    rotation: Option<Progress>,
    rings: Vec<RingView>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Page {
    /// The partition to begin with.
    #[serde(default)]
    from: u8,
}

/// Count the records that each sealing key opens
///
/// The result comes in pages. Their sum covers all records.
#[utoipa::path(get, path = "/v1/seal", operation_id = "countSeals", params(Page), responses(
    (status = 200, description = "A page of the count", body = Count),
))]
async fn status(
    State(broker): State<Broker>,
    QueryString(page): QueryString<Page>,
) -> Result<Json<Count>, Error> {
    let writer = &broker.0.writer;
    let (count, next) = writer.count_seals(page.from, PAGE_SIZE).await?;
    let mut rings = Vec::new();
    for kind in RingKind::ALL {
        let list = writer.key_list(kind).await?;
        rings.push(ring_view(
            kind,
            writer.rings().of(kind),
            &list,
            count.of(kind),
        ));
    }
    Ok(Json(Count {
        rings,
        records: count.records,
        malformed: count.malformed,
        next,
        partitions: PARTITIONS,
    }))
}

/// Seal all records anew
///
/// Uses the first key of each ring. Starts a rotation, or joins the one in progress.
#[utoipa::path(post, path = "/v1/seal/rotate", operation_id = "startRotation", responses(
    (status = 200, description = "The rotation", body = RotationView),
))]
async fn rotate(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
) -> Result<Json<RotationView>, Error> {
    let inner = &broker.0;
    inner.worker.watch.ensure_verified()?;
    inner.rotation.start(&inner.worker, &inner.shutdown);
    let entry = requester.entry(inner.reader.now(), Action::SealingKeysRotated);
    inner.audit.record(entry).await;
    rotation(State(broker)).await
}

/// Show how far the rotation of sealing keys is
///
/// Shows the rotation of this broker, or else that of another one.
#[utoipa::path(get, path = "/v1/seal/rotate", operation_id = "getRotation", responses(
    (status = 200, description = "The rotation", body = RotationView),
))]
async fn rotation(State(broker): State<Broker>) -> Result<Json<RotationView>, Error> {
    let writer = &broker.0.writer;
    let progress = match broker.0.rotation.progress() {
        Some(progress) => Some(progress),
        None => {
            let in_store = writer.rotation().await?;
            in_store.as_deref().and_then(Progress::from_text)
        }
    };
    let mut rings = Vec::new();
    for kind in RingKind::ALL {
        let list = writer.key_list(kind).await?;
        let uncounted = KeyUse::default();
        rings.push(ring_view(kind, writer.rings().of(kind), &list, &uncounted));
    }
    Ok(Json(RotationView {
        rotation: progress,
        rings,
    }))
}

/// The body of a request to forget a key.
#[derive(Deserialize, ToSchema)]
#[schema(as = SealingKeyToForget)]
struct Forget {
    /// The id of the key.
    id: String,
}

/// The rings that have forgotten a key.
#[derive(Serialize, ToSchema)]
#[schema(as = ForgottenSealingKey)]
struct Forgotten {
    id: String,
    #[schema(value_type = Vec<String>)]
    forgotten: Vec<&'static str>,
}

/// Forget a sealing key
///
/// Removes the id of a key that no record needs, and that is in no ring any more. Another key can have its id then.
#[utoipa::path(post, path = "/v1/seal/forget", operation_id = "forgetSealingKey", request_body = Forget, responses(
    (status = 200, description = "The key is forgotten", body = Forgotten),
    (status = 404, description = "The store lists no sealing key with this id"),
    (status = 409, description = "Records may need the key, or a ring has it"),
))]
async fn forget(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
    JsonBody(Forget { id }): JsonBody<Forget>,
) -> Result<Json<Forgotten>, Error> {
    let mut forgotten = Vec::new();
    for kind in RingKind::ALL {
        match broker.0.writer.forget_key(kind, &id).await? {
            Ok(()) => forgotten.push(kind.as_str()),
            Err(NotForgotten::Unknown) => {}
            Err(reason @ (NotForgotten::Needed | NotForgotten::InRing)) => {
                return Err(not_forgotten(kind, reason));
            }
        }
    }
    if forgotten.is_empty() {
        let message = "The store lists no sealing key with this id";
        return Err(Error::new(ErrorKind::SealingKeyNotFound, message));
    }
    info!(key = id, rings = ?forgotten, "a sealing key is forgotten");
    let entry = requester.entry(broker.0.reader.now(), Action::SealingKeyForgotten);
    broker.0.audit.record(entry.with(id.as_str())).await;
    Ok(Json(Forgotten { id, forgotten }))
}

fn not_forgotten(kind: RingKind, reason: NotForgotten) -> Error {
    let hint = match reason {
        NotForgotten::Needed | NotForgotten::Unknown => {
            "`evergreen seal rotate` frees a key that is in front of no broker's ring"
        }
        NotForgotten::InRing => "remove it from all rings and restart the brokers first",
    };
    let setting = kind.setting();
    Error::new(ErrorKind::SealingKeyNeeded, format!("{setting}: {reason}")).with_hint(hint)
}

/// The keys of the ring and of the store's list, in the order of the ring.
fn ring_view(kind: RingKind, ring: &KeyRing, list: &KeyList, count: &KeyUse) -> RingView {
    let mut ids: Vec<&str> = ring.check_values().map(|(id, _)| id).collect();
    let in_ring = ids.len();
    for id in list.keys.keys().chain(count.sealed.keys()) {
        if !ids.contains(&id.as_str()) {
            ids.push(id);
        }
    }
    let of = |counts: &std::collections::BTreeMap<String, u64>, id| {
        counts.get(id).copied().unwrap_or_default()
    };
    let keys = ids.iter().enumerate().map(|(index, id)| {
        let listed = list.keys.get(*id);
        SealingKey {
            id: (*id).to_owned(),
            seals: index == 0,
            in_ring: index < in_ring,
            lost: ring.is_lost(id),
            state: listed.map(|listed| listed.state.as_str()),
            records: of(&count.sealed, *id),
            unreadable: of(&count.unreadable, *id),
        }
    });
    RingView {
        ring: kind.as_str(),
        setting: kind.setting(),
        keys: keys.collect(),
    }
}

impl From<KeysError> for Error {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Store(error) => error.into(),
            KeysError::Wrong(_) | KeysError::List(_) => {
                Self::new(ErrorKind::RecordUnreadable, error.to_string())
            }
        }
    }
}
