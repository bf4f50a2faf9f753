//! Everything that takes more than one crate: the real programs against real servers.

mod checklist;
mod walls;
