//! The whole gateway in one process, between a store, a broker and a GHL that do as they are told.

mod callers;
mod endpoints;
mod forwarding;
mod guard;
mod places;
mod replay;
mod retries;
mod token;
mod world;
