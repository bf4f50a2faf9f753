//! Follows a master that Sentinels name.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::sentinel::SentinelClient;
use redis::{Client, RedisResult};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::server::address;
use super::{COMMAND_TIMEOUT, Server};

/// How often the Sentinels are asked in normal operation.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How often they are asked while commands fail.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// The master of one name. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct SentinelMaster {
    master: watch::Receiver<Option<Client>>,
    /// The server of the last connection.
    server: Arc<Mutex<Option<Server>>>,
    refresh_now: Arc<Notify>,
    switches: Arc<AtomicU64>,
    _task: Arc<BackgroundTask>,
}

#[derive(Debug)]
struct BackgroundTask(JoinHandle<()>);

impl Drop for BackgroundTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl SentinelMaster {
    pub(super) fn start(sentinels: SentinelClient) -> Self {
        let (found, master) = watch::channel(None);
        let refresh_now = Arc::new(Notify::new());
        let switches: Arc<AtomicU64> = Arc::default();
        let on_switch = {
            let switches = switches.clone();
            move || {
                switches.fetch_add(1, Ordering::AcqRel);
            }
        };
        let task = tokio::spawn(watch_master(
            sentinels,
            found,
            refresh_now.clone(),
            on_switch,
        ));
        Self {
            master,
            server: Arc::default(),
            refresh_now,
            switches,
            _task: Arc::new(BackgroundTask(task)),
        }
    }

    /// The same master over a separate connection.
    pub(super) fn with_own_connections(&self) -> Self {
        Self {
            server: Arc::default(),
            ..self.clone()
        }
    }

    /// The current master. Waits for the first one.
    pub(super) async fn master(&self) -> Client {
        self.find(|_| true).await
    }

    /// The current master, connected.
    pub(super) async fn server(&self) -> RedisResult<Server> {
        let master = self.master().await;
        let mut connected = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        match &*connected {
            Some(server) if is_same(server.client(), &master) => Ok(server.clone()),
            Some(_) | None => Ok(connected.insert(Server::new(master)?).clone()),
        }
    }

    /// Requests a new lookup at once, after an error that another master would explain.
    pub(super) fn refresh_soon(&self) {
        self.refresh_now.notify_one();
    }

    /// How often another master was named.
    pub(super) fn switches(&self) -> u64 {
        self.switches.load(Ordering::Acquire)
    }

    /// Returns once the master is another one.
    pub(super) async fn wait_until_moved(&self, previous: &Client) {
        self.find(|master| !is_same(master, previous)).await;
    }

    async fn find(&self, matches: impl Fn(&Client) -> bool) -> Client {
        let mut master = self.master.clone();
        let found = master
            .wait_for(|known| known.as_ref().is_some_and(&matches))
            .await;
        match found.map(|found| found.clone()) {
            Ok(Some(master)) => master,
            // The task ends with the runtime, and so does this call.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}

fn is_same(one: &Client, other: &Client) -> bool {
    one.get_connection_info().addr() == other.get_connection_info().addr()
}

/// Asks for the master at intervals, and at once on request.
async fn watch_master(
    mut sentinels: SentinelClient,
    master: watch::Sender<Option<Client>>,
    refresh_now: Arc<Notify>,
    on_switch: impl Fn(),
) {
    let mut is_lost = false;
    loop {
        match find(&mut sentinels).await {
            Ok(found) => {
                if std::mem::take(&mut is_lost) {
                    info!("the Sentinels name a master again");
                }
                publish(&master, found, &on_switch);
            }
            Err(error) => {
                if !std::mem::replace(&mut is_lost, true) {
                    warn!(%error, "the Sentinels name no server that is a master");
                }
            }
        }
        sleep(MIN_INTERVAL).await;
        // Without a master, do not wait for the longer interval.
        if !is_lost {
            let _ = timeout(POLL_INTERVAL, refresh_now.notified()).await;
        }
    }
}

/// The library verifies the Sentinels' answer: it asks the server for its role.
async fn find(sentinels: &mut SentinelClient) -> RedisResult<Client> {
    match timeout(COMMAND_TIMEOUT, sentinels.async_get_client()).await {
        Ok(found) => found,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

fn publish(master: &watch::Sender<Option<Client>>, found: Client, on_switch: &impl Fn()) {
    let is_known = |known: &Client| is_same(known, &found);
    if !master.borrow().as_ref().is_some_and(is_known) {
        info!(master = address(&found), "the store has a new master");
        // Count first, so that no command reaches the new master before the count changes.
        on_switch();
        master.send_replace(Some(found));
    }
}
