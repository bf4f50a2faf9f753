//! End-to-end tests: the real programs and real servers. Tests with high CPU load are in `tests/load`.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod access_log;
mod agencies;
mod alerts;
mod apps;
mod audit;
mod browser_keys;
mod build_commit;
mod cache_invalidation;
mod callers;
mod check;
mod check_store;
mod clock_skew;
mod cluster;
mod command_line;
mod conformance;
mod connect;
mod console;
mod console_browser;
mod crate_dependencies;
mod dashboards;
mod data_dir;
mod dependencies;
mod disk;
mod docs;
mod doctor;
mod echoed_secrets;
mod events;
mod faults;
mod healthcheck;
mod import;
mod log_lines;
mod manual;
mod metrics;
mod moving;
mod network_partitions;
mod nginx;
mod openapi;
mod overview;
mod planted_secrets;
mod proxying;
mod quick_start;
mod rate_limits;
mod readiness;
mod reload;
mod revocation;
mod sealing;
mod sentinel;
mod settings;
mod shared_redis;
mod shutdown;
mod sso;
mod store_check;
mod store_data_loss;
mod store_outage;
mod tls;
mod traces;
mod transparency;
mod webhooks;
