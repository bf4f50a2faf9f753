//! The state that all handlers share.

use std::sync::{Mutex, MutexGuard};

use secrecy::ExposeSecret;
use service::locks::lock;

use crate::Config;
use crate::api::McpSessions;
use crate::apps::Apps;
use crate::clock::Clock;
use crate::directory::Directory;
use crate::faults::Faults;
use crate::grants::Grants;
use crate::ids::Ids;
use crate::installations::Installations;
use crate::ledger::{Calls, Companies};
use crate::limits::Limits;
use crate::settings::Live;
use crate::token::Signer;
use crate::webhooks::{self, SentWebhooks, Webhooks};

#[derive(Debug)]
pub(crate) struct App {
    pub(crate) apps: Apps,
    pub(crate) clock: Clock,
    pub(crate) ids: Ids,
    pub(crate) signer: Signer,
    pub(crate) webhooks: Webhooks,
    world: Mutex<World>,
}

/// The mutable state. Its lock is held for short sections without waiting.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) settings: Live,
    pub(crate) grants: Grants,
    pub(crate) directory: Directory,
    pub(crate) limits: Limits,
    pub(crate) faults: Faults,
    pub(crate) calls: Calls,
    pub(crate) installations: Installations,
    pub(crate) companies: Companies,
    pub(crate) webhooks: SentWebhooks,
    pub(crate) mcp: McpSessions,
}

impl App {
    pub(crate) fn new(config: &Config) -> Result<Self, webhooks::StartError> {
        let clock = Clock::start();
        let secret = config.client_secret.expose_secret().as_bytes();
        Ok(Self {
            ids: Ids::new(secret, clock.now_ms()),
            signer: Signer::new(secret),
            apps: Apps::new(config),
            webhooks: Webhooks::new(config)?,
            world: Mutex::new(World {
                settings: Live::new(config),
                grants: Grants::default(),
                directory: Directory::new(),
                limits: Limits::default(),
                faults: Faults::default(),
                calls: Calls::default(),
                installations: Installations::default(),
                companies: Companies::default(),
                webhooks: SentWebhooks::default(),
                mcp: McpSessions::default(),
            }),
            clock,
        })
    }

    /// Locks the state. A poisoned lock is ignored, because no change can fail half way.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }
}
