//! A master that Sentinels name, followed to wherever it moves.

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

/// How often the Sentinels are asked while all is well.
const EVERY: Duration = Duration::from_secs(1);
/// How often they are asked while commands fail.
const AT_MOST_EVERY: Duration = Duration::from_millis(100);

/// The master of one name. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Followed {
    master: watch::Receiver<Option<Client>>,
    /// What was last connected to.
    server: Arc<Mutex<Option<Server>>>,
    doubt: Arc<Notify>,
    switches: Arc<AtomicU64>,
    _follower: Arc<Follower>,
}

#[derive(Debug)]
struct Follower(JoinHandle<()>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Followed {
    pub(super) fn start(sentinels: SentinelClient) -> Self {
        let (found, master) = watch::channel(None);
        let doubt = Arc::new(Notify::new());
        let switches: Arc<AtomicU64> = Arc::default();
        let switched = {
            let switches = switches.clone();
            move || {
                switches.fetch_add(1, Ordering::AcqRel);
            }
        };
        let follower = tokio::spawn(follow(sentinels, found, doubt.clone(), switched));
        Self {
            master,
            server: Arc::default(),
            doubt,
            switches,
            _follower: Arc::new(Follower(follower)),
        }
    }

    /// The same master, over another connection.
    pub(super) fn apart(&self) -> Self {
        Self {
            server: Arc::default(),
            ..self.clone()
        }
    }

    /// The master as it is known now; waits for the first one.
    pub(super) async fn master(&self) -> Client {
        self.find(|_| true).await
    }

    /// The master, connected.
    pub(super) async fn server(&self) -> RedisResult<Server> {
        let master = self.master().await;
        let mut connected = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        match &*connected {
            Some(server) if is_same(server.client(), &master) => Ok(server.clone()),
            Some(_) | None => Ok(connected.insert(Server::new(master)?).clone()),
        }
    }

    /// A command failed in a way that another master would explain: asks at once.
    pub(super) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// How often another master was named than before.
    pub(super) fn switches(&self) -> u64 {
        self.switches.load(Ordering::Acquire)
    }

    /// Returns once the master is another one.
    pub(super) async fn moved_from(&self, former: &Client) {
        self.find(|master| !is_same(master, former)).await;
    }

    async fn find(&self, is_it: impl Fn(&Client) -> bool) -> Client {
        let mut master = self.master.clone();
        let found = master
            .wait_for(|known| known.as_ref().is_some_and(&is_it))
            .await;
        match found.map(|found| found.clone()) {
            Ok(Some(master)) => master,
            // The follower ends with the runtime, and this with it.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}

fn is_same(one: &Client, other: &Client) -> bool {
    one.get_connection_info().addr() == other.get_connection_info().addr()
}

/// Asks for the master again and again, at once when it is doubted.
async fn follow(
    mut sentinels: SentinelClient,
    master: watch::Sender<Option<Client>>,
    doubt: Arc<Notify>,
    switched: impl Fn(),
) {
    let mut is_lost = false;
    loop {
        match find(&mut sentinels).await {
            Ok(found) => {
                if std::mem::take(&mut is_lost) {
                    info!("the Sentinels name a master again");
                }
                switch(&master, found, &switched);
            }
            Err(error) => {
                if !std::mem::replace(&mut is_lost, true) {
                    warn!(%error, "the Sentinels name no master that is one");
                }
            }
        }
        sleep(AT_MOST_EVERY).await;
        // While there is none it is looked for as often as while it is doubted.
        if !is_lost {
            let _ = timeout(EVERY, doubt.notified()).await;
        }
    }
}

/// The library takes nobody's word for it: it asks the master for its role.
async fn find(sentinels: &mut SentinelClient) -> RedisResult<Client> {
    match timeout(COMMAND_TIMEOUT, sentinels.async_get_client()).await {
        Ok(found) => found,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

fn switch(master: &watch::Sender<Option<Client>>, found: Client, switched: &impl Fn()) {
    let is_known = |known: &Client| is_same(known, &found);
    if !master.borrow().as_ref().is_some_and(is_known) {
        info!(master = address(&found), "the store's master");
        // First: no command reaches it before it counts.
        switched();
        master.send_replace(Some(found));
    }
}
