//! The administration of sealing keys: which key the records need, and the rotation.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use store::audit::Action;
use store::key_list::{KeyList, RingKind};
use store::seal::KeyRing;
use store_writer::sealing::KeysError;
use store_writer::sealing::list::NotForgotten;
use store_writer::sealing::record::KeyUse;
use tracing::info;

use crate::Broker;
use crate::api::error::{Error, ErrorKind};
use crate::api::extract::{JsonBody, QueryString};
use crate::audit::Requester;
use crate::sealing::rotation::Progress;

/// The least records of a page, if there are as many. A page ends with a partition.
const PAGE_SIZE: u64 = 2000;
const PARTITIONS: u16 = store::keys::PARTITIONS;

pub(crate) fn routes() -> Router<Broker> {
    Router::new()
        .route("/v1/seal", get(status))
        .route("/v1/seal/rotate", get(rotation).post(rotate))
        .route("/v1/seal/forget", post(forget))
}

#[derive(Deserialize)]
struct Page {
    /// The partition to begin with.
    #[serde(default)]
    from: u8,
}

/// A page of the count. The sum of all pages covers all records.
async fn status(
    State(broker): State<Broker>,
    QueryString(page): QueryString<Page>,
) -> Result<Json<Value>, Error> {
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
    Ok(Json(json!({
        "rings": rings,
        "records": count.records,
        "malformed": count.malformed,
        "next": next,
        "partitions": PARTITIONS,
    })))
}

/// Starts a rotation, or joins the one under way.
async fn rotate(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
) -> Result<Json<Value>, Error> {
    let inner = &broker.0;
    inner.worker.watch.ensure_verified()?;
    inner.rotation.start(&inner.worker, &inner.shutdown);
    let entry = requester.entry(inner.reader.now(), Action::SealingKeysRotated);
    inner.audit.record(entry).await;
    rotation(State(broker)).await
}

/// The rotation of this broker, or else that of another one; `null` if there is none.
async fn rotation(State(broker): State<Broker>) -> Result<Json<Value>, Error> {
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
    Ok(Json(json!({ "rotation": progress, "rings": rings })))
}

/// The body of a request to forget a key.
#[derive(Deserialize)]
struct Forget {
    id: String,
}

/// Removes a key from the lists of both rings, unless it is needed.
async fn forget(
    State(broker): State<Broker>,
    Extension(requester): Extension<Requester>,
    JsonBody(Forget { id }): JsonBody<Forget>,
) -> Result<Json<Value>, Error> {
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
    Ok(Json(json!({ "id": id, "forgotten": forgotten })))
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
fn ring_view(kind: RingKind, ring: &KeyRing, list: &KeyList, count: &KeyUse) -> Value {
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
        json!({
            "id": id,
            "seals": index == 0,
            "inRing": index < in_ring,
            "lost": ring.is_lost(id),
            "state": listed.map(|listed| listed.state.as_str()),
            "records": of(&count.sealed, *id),
            "unreadable": of(&count.unreadable, *id),
        })
    });
    json!({
        "ring": kind.as_str(),
        "setting": kind.setting(),
        "keys": keys.collect::<Vec<_>>(),
    })
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
