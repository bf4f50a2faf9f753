//! The commands that serve.

mod banner;
mod inspect;
#[cfg(feature = "sandbox")]
mod local_ghl;
#[cfg(not(feature = "sandbox"))]
#[path = "run/no_local_ghl.rs"]
mod local_ghl;
mod redis;
mod up;

pub(crate) use inspect::{Checked, Place, Redis, inspect};
#[cfg(feature = "sandbox")]
pub(crate) use local_ghl::sandbox;
pub(crate) use redis::{broker, gateway, replicas};
pub(crate) use up::up;
