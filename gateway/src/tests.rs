//! Tests of the whole gateway in one process, with a fake store, a fake broker and a fake GHL.

mod access_log;
mod apps;
mod audit;
mod authentication;
mod combined_failures;
mod concurrency;
mod endpoints;
mod forwarding;
mod retry_after_401;
mod testbed;
mod token_endpoint;
mod token_freshness;
mod token_kind;
