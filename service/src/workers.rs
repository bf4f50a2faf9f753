//! One thread for each core, each with its own runtime. A request and its upstream connection stay on one thread, so
//! they neither wait for another core nor share locks with it.
//!
//! One task accepts, and gives each connection to the worker with the fewest. Connections live long, so a random
//! choice could leave one core with most of the work.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::connection_limits::ConnectionLimits;
use crate::handler::Handler;
use crate::listen::{Accepted, Connections, accept};
use crate::shutdown::Shutdown;
use crate::tls::{Callers, ListenerTls, TlsAcceptor};

/// Threads that are ready to serve.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    /// Cancelled once all workers have finished. Until then each worker's runtime stays alive for the others.
    end: CancellationToken,
}

#[derive(Debug)]
struct Worker {
    connections: mpsc::UnboundedSender<Accepted<std::net::TcpStream>>,
    open: Arc<AtomicUsize>,
    finished: oneshot::Receiver<()>,
}

impl Workers {
    /// Starts one worker for each core. Each creates its own handler within its runtime. `tls`: `None` to serve without
    /// TLS.
    ///
    /// # Errors
    /// When the system cannot start a thread.
    pub fn start<H: Handler>(
        handler: impl Fn() -> H + Clone + Send + 'static,
        tls: Option<(&ListenerTls, Callers)>,
    ) -> io::Result<Self> {
        let tls = tls.map(|(tls, callers)| tls.acceptor(callers));
        let end = CancellationToken::new();
        let count = thread::available_parallelism().map_or(1, usize::from);
        let workers = (0..count)
            .map(|number| Worker::start(number, handler.clone(), tls.clone(), end.clone()))
            .collect::<io::Result<_>>()?;
        Ok(Self { workers, end })
    }

    /// Like [`listen::serve`](crate::listen::serve).
    pub async fn serve(self, listener: TcpListener, limits: ConnectionLimits, shutdown: Shutdown) {
        accept(listener, &limits, &shutdown, |accepted| {
            if !self.give(accepted) {
                error!("a worker thread has ended");
                shutdown.fail();
            }
        })
        .await;
        let Self { workers, end } = self;
        // Dropping all senders at once stops all workers. None waits for the requests of another.
        let finishing: Vec<_> = workers.into_iter().map(|it| it.finished).collect();
        for finished in finishing {
            // A worker that panicked counts as finished.
            let _ = finished.await;
        }
        end.cancel();
    }

    /// Gives a connection to a worker. Returns false if that worker has ended.
    fn give(&self, accepted: Accepted) -> bool {
        let Accepted { stream, place } = accepted;
        let least = self.workers.iter().min_by_key(|worker| worker.open());
        match (least, stream.into_std()) {
            (Some(worker), Ok(stream)) => {
                worker.open.fetch_add(1, Ordering::Relaxed);
                worker.connections.send(Accepted { stream, place }).is_ok()
            }
            (None, _) => false,
            (Some(_), Err(reason)) => {
                warn!(%reason, "cannot hand over a connection");
                true
            }
        }
    }
}

impl Worker {
    fn start<H: Handler>(
        number: usize,
        handler: impl Fn() -> H + Send + 'static,
        tls: Option<TlsAcceptor>,
        end: CancellationToken,
    ) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (connections, given) = mpsc::unbounded_channel();
        let (finish, finished) = oneshot::channel();
        let open = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&open);
        thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                runtime.block_on(async {
                    work(Connections::new(handler(), tls), given, counted).await;
                    drop(finish);
                    end.cancelled().await;
                });
            })?;
        Ok(Self {
            connections,
            open,
            finished,
        })
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

async fn work<H: Handler>(
    connections: Connections<H>,
    mut given: mpsc::UnboundedReceiver<Accepted<std::net::TcpStream>>,
    open: Arc<AtomicUsize>,
) {
    while let Some(Accepted { stream, place }) = given.recv().await {
        let open = Arc::clone(&open);
        match TcpStream::from_std(stream) {
            Ok(stream) => {
                let connection = connections.connection(Accepted { stream, place });
                drop(tokio::spawn(counted(connection, open)));
            }
            Err(reason) => {
                open.fetch_sub(1, Ordering::Relaxed);
                warn!(%reason, "cannot serve a connection");
            }
        }
    }
    connections.finished().await;
}

async fn counted(connection: impl Future<Output = ()>, open: Arc<AtomicUsize>) {
    struct Leave(Arc<AtomicUsize>);
    impl Drop for Leave {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let _leave = Leave(open);
    connection.await;
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::{IpAddr, SocketAddr};
    use std::time::Duration;

    use axum::body::Body;
    use axum::http::{Request, Response};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Semaphore;
    use tokio::time::timeout;

    use super::*;
    use crate::listen::bind;

    const SOON: Duration = Duration::from_secs(10);

    /// Answers with the name of its thread, once it gets a permit.
    #[derive(Clone)]
    struct Name {
        entered: Arc<Semaphore>,
        may_answer: Arc<Semaphore>,
    }

    impl Handler for Name {
        async fn handle(&self, _: Request<Body>, _: IpAddr) -> Response<Body> {
            self.entered.add_permits(1);
            drop(self.may_answer.acquire().await);
            let thread = thread::current();
            Response::new(Body::from(thread.name().unwrap().to_owned()))
        }
    }

    async fn ask(address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n";
        stream.write_all(request).await.unwrap();
        stream
    }

    /// Reads until the connection is closed. Returns the body.
    async fn answer(mut stream: TcpStream) -> String {
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        timeout(SOON, read).await.unwrap().unwrap();
        answer.rsplit("\r\n").next().unwrap().to_owned()
    }

    #[tokio::test]
    async fn connections_are_balanced_and_finished_at_shutdown() {
        let [entered, may_answer] = [(); 2].map(|()| Arc::new(Semaphore::new(0)));
        let handler = Name {
            entered: Arc::clone(&entered),
            may_answer: Arc::clone(&may_answer),
        };
        let workers = Workers::start(move || handler.clone(), None).unwrap();
        let count = workers.workers.len();
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let serving =
            shutdown.spawn(workers.serve(listener, ConnectionLimits::none(), shutdown.clone()));
        let mut asked = Vec::new();
        for _ in 0..3 * count {
            asked.push(ask(address).await);
            let has_entered = timeout(SOON, entered.acquire()).await;
            has_entered.unwrap().unwrap().forget();
        }
        let mut idle = Vec::new();
        for _ in 0..count {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        shutdown.start();
        // No worker waits for the requests of another.
        for stream in idle {
            assert_eq!(answer(stream).await, "");
        }
        may_answer.add_permits(1);
        let mut served: HashMap<String, usize> = HashMap::new();
        for stream in asked {
            *served.entry(answer(stream).await).or_default() += 1;
        }
        timeout(SOON, serving).await.unwrap().unwrap();
        assert_eq!(served.len(), count, "{served:?}");
        assert!(served.values().all(|served| *served == 3), "{served:?}");
    }
}
