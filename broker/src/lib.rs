//! The broker: refreshes the tokens of every installation and accepts new consents.
//!
//! | module | contents |
//! | --- | --- |
//! | `broker` | how a broker is assembled and started |
//! | `api` | the HTTP API: consents, webhooks, status, refresh requests, administration |
//! | `refresh` | the refresh protocol: scheduler, worker, recovery, circuit breaker, outage detection |
//! | `apps` | the apps at GHL: their settings, credentials and names |
//! | `connect` | one-time links, and the destination of the browser after a consent |
//! | `console` | the web console for operators |
//! | `agency` | the locations of agencies: the list of them, and their tokens |
//! | `audit` | the audit log |
//! | `diagnosis` | why an installation does not work, and what to do |
//! | `events` | outgoing messages: events, and GHL's webhooks that are forwarded |
//! | `health` | checks of the files and of the store |
//! | `overview` | the state of everything at a glance, and counts of the last day |
//! | `sealing` | sealing keys: their registration and rotation |
//! | `config`, `metrics`, `static_tokens` | settings, metrics, tokens from the settings |

#![warn(missing_docs)]

mod agency;
mod api;
mod apps;
mod audit;
mod broker;
mod config;
mod connect;
mod console;
mod diagnosis;
mod events;
mod health;
mod metrics;
mod overview;
mod refresh;
mod reload;
mod sealing;
#[cfg(feature = "simulation")]
pub mod simulation;
mod static_tokens;

pub use api::admin;
pub use api::html::Brand;
pub use api::openapi::openapi;
pub use apps::config::{AppConfig, DEFAULT_SCOPES, SECTIONS as APP_SECTIONS};
pub use audit::{AuditLog, AuditLogError};
pub use broker::{Broker, Parts, StartError};
pub use config::{Config, SchedulerConfig, StaticToken, Timing};
pub use connect::return_urls::ReturnUrls;
pub use events::address::PrivateAddresses;
pub use events::client::Config as EventsClientConfig;
pub use events::endpoint::{
    BadEndpointId, Endpoint, EndpointId, EventPattern, UnknownEventType, Wants,
};
pub use events::signature::{BadSecret, SigningSecret};
pub use health::store_check::{StoreCheck, UnknownStoreCheck, UnsafeStore};
pub use metrics::TOKEN_ENDPOINT_BUCKETS;
pub use reload::{RELOADED, RELOADED_APPS};
pub use sealing::reload::RingsError;
