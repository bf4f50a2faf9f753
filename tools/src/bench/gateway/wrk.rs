//! A scene as a load of wrk.

use std::time::Duration;

use super::scene::Scene;
use super::yard::Yard;
use crate::bench::wrk::{Load, Seen};

/// Loads whoever is at this `host:port`, and a path below it, for so many whole seconds.
pub(super) async fn run(yard: &Yard, scene: &Scene, target: &str, length: Duration) -> Seen {
    let load = Load {
        callers: &yard.callers,
        url: format!("http://{target}{}", scene.path),
        body_bytes: scene.body_bytes,
        connections: scene.connections,
        pause: Duration::ZERO,
        under: &[],
        length,
    };
    let seen = load.run().await;
    let failed = seen.refused + seen.broken;
    assert!(failed < 1.0, "who fails is not fast: {seen:?}");
    seen
}
