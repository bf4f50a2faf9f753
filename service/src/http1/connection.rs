//! A caller's connection, served within one task: one request after another, each answered before the
//! next is looked at.

use std::io::{self, Cursor, ErrorKind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Method, Response, Version};
use bytes::BytesMut;
use std::future::{Future, poll_fn};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Chain, Join, join};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tracing::debug;

use super::incoming::{Back, Incoming, Rest};
use super::inlet::Inlet;
use super::request::Head;
use super::response::{self, Asked};
use super::{Malformed, Names, Unsent};
use crate::listen::{BUFFER_BYTES, HEAD_TIMEOUT, Handler, IDLE_TIMEOUT};

/// What HTTP/2 begins with where nobody negotiated it: RFC 9113, 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long what nobody wants is read all the same, at the end of a connection. One that is closed with
/// bytes of its caller unread is reset, and a reset takes the answer with it where the caller has
/// not read that yet: who uploads a file with a wrong key would see a broken connection, and not
/// the 401.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A connection on which HTTP/2 is spoken, from its first byte.
pub(crate) type Http2 = Join<Chain<Cursor<Bytes>, OwnedReadHalf>, OwnedWriteHalf>;

/// Serves until the caller closes it, or has asked for nothing for long, or `stop` comes; what is in
/// flight is finished first. A connection on which HTTP/2 is spoken is given back.
pub(crate) async fn serve(
    stream: TcpStream,
    handler: &impl Handler,
    stop: &CancellationToken,
) -> Option<Http2> {
    let (reader, mut writer) = stream.into_split();
    let mut inlet = Inlet::new(reader);
    let stopped = pin!(stop.cancelled());
    let mut waiting = Waiting {
        names: Names::default(),
        until: Instant::now(),
        has_begun: false,
        timer: Box::pin(sleep(IDLE_TIMEOUT)),
        stopped,
    };
    let mut is_first = true;
    loop {
        let head = match waiting.head(&mut inlet, is_first).await {
            Next::Request(head) => head,
            Next::Http2 => {
                let read = std::mem::take(&mut inlet.read).freeze();
                return Some(join(Cursor::new(read).chain(inlet.stream), writer));
            }
            Next::Malformed(malformed) => {
                debug!(reason = %malformed, "no request");
                let reading = Reading::Ended(inlet);
                refuse(&malformed, reading, writer).await;
                return None;
            }
            Next::End => return None,
        };
        is_first = false;
        let mut asked = Asked {
            method: head.request.method().clone(),
            version: head.request.version(),
            is_kept: head.is_kept,
        };
        let (body, mut reading) = Reading::of(inlet, &head);
        let response = {
            let mut handling = pin!(handler.handle(head.request.map(|()| body)));
            poll_fn(|context| match handling.as_mut().poll(context) {
                Poll::Ready(response) => Poll::Ready(Some(response)),
                Poll::Pending => reading.poll_gone(context).map(|()| None),
            })
            .await?
        };
        asked.is_kept &= reading.is_over() && !stop.is_cancelled();
        let patience = handler.answer_timeout();
        let sent = send(response, patience, &mut asked, &mut reading, &mut writer).await;
        if let Err(reason) = sent {
            debug!(%reason, "an answer broke off");
            if asked.version == Version::HTTP_10 {
                reset(writer);
            }
            return None;
        }
        match reading {
            Reading::Ended(kept) if asked.is_kept => inlet = kept,
            reading => {
                until_closed(reading, writer).await;
                return None;
            }
        }
        inlet.rest();
    }
}

/// What comes next on a connection.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly always the large one, moved once"
)]
enum Next {
    Request(Head),
    Http2,
    Malformed(Malformed),
    /// Nothing more.
    End,
}

/// For the head of a request.
struct Waiting<'p, 's> {
    names: Names,
    until: Instant,
    /// A part of it has come.
    has_begun: bool,
    /// Comes no later than `until`, and is set anew only when it comes: a timer that is set for each
    /// request would cost more than all the rest of waiting.
    timer: Pin<Box<Sleep>>,
    stopped: Pin<&'p mut WaitForCancellationFuture<'s>>,
}

impl Waiting<'_, '_> {
    async fn head(&mut self, inlet: &mut Inlet, is_first: bool) -> Next {
        self.until = Instant::now() + IDLE_TIMEOUT;
        self.has_begun = false;
        poll_fn(|context| self.poll_head(inlet, is_first, context)).await
    }

    fn poll_head(
        &mut self,
        inlet: &mut Inlet,
        is_first: bool,
        context: &mut Context<'_>,
    ) -> Poll<Next> {
        loop {
            if let Some(next) = self.next(&mut inlet.read, is_first) {
                return Poll::Ready(next);
            }
            match inlet.poll_read(context) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Next::End),
                Poll::Pending => break,
            }
        }
        if inlet.read.is_empty() {
            if self.stopped.as_mut().poll(context).is_ready() {
                return Poll::Ready(Next::End);
            }
        } else if !self.has_begun {
            self.has_begun = true;
            self.until = Instant::now() + HEAD_TIMEOUT;
            self.timer.as_mut().reset(self.until);
        }
        loop {
            ready!(self.timer.as_mut().poll(context));
            if Instant::now() >= self.until {
                return Poll::Ready(match self.has_begun {
                    true => Next::Malformed(Malformed::LateHead),
                    false => Next::End,
                });
            }
            self.timer.as_mut().reset(self.until);
        }
    }

    fn next(&mut self, read: &mut BytesMut, is_first: bool) -> Option<Next> {
        if read.is_empty() {
            return None;
        }
        if is_first && read.starts_with(&PREFACE[..read.len().min(PREFACE.len())]) {
            return (read.len() >= PREFACE.len()).then_some(Next::Http2);
        }
        match Head::take(read, &mut self.names) {
            Ok(head) => head.map(Next::Request),
            Err(malformed) => Some(Next::Malformed(malformed)),
        }
    }
}

/// Where the reading side of the connection is.
enum Reading {
    /// The request is over.
    Ended(Inlet),
    /// Nobody wants the rest of the request's body, or it cannot be understood.
    Unwanted(Rest),
    /// Whoever has the request's body has it.
    Lent(Arc<Back>),
}

impl Reading {
    fn of(inlet: Inlet, head: &Head) -> (Body, Self) {
        if head.framing.is_over() {
            return (Body::empty(), Self::Ended(inlet));
        }
        let (body, back) = Incoming::new(Rest {
            inlet,
            framing: head.framing,
            expects_continue: head.expects_continue,
        });
        (Body::new(body), Self::Lent(back))
    }

    /// Takes the reading side back where nobody has it any more.
    fn poll_back(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Self::Lent(back) = self {
            *self = Self::left(ready!(back.poll_take(context)));
        }
        Poll::Ready(())
    }

    /// What came already is not waited for.
    fn left(mut rest: Rest) -> Self {
        match rest.skip() {
            Ok(()) if rest.framing.is_over() => Self::Ended(rest.inlet),
            Ok(()) | Err(_) => Self::Unwanted(rest),
        }
    }

    /// Whether the request was read to its end.
    fn is_over(&mut self) -> bool {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let _ = self.poll_back(&mut context);
        matches!(self, Self::Ended(_))
    }

    /// Comes when the caller has closed its connection. What it sends before it has its answer is kept,
    /// up to a bound.
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_back(context));
        let Self::Ended(inlet) = self else {
            return Poll::Pending;
        };
        while inlet.read.len() < BUFFER_BYTES {
            if !matches!(ready!(inlet.poll_read(context)), Ok(1..)) {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// Reads what nobody wants, until there is no more.
    fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.poll_back(context));
            let inlet = match self {
                Self::Ended(inlet) | Self::Unwanted(Rest { inlet, .. }) => inlet,
                Self::Lent(_) => return Poll::Ready(()),
            };
            inlet.read.clear();
            if !matches!(ready!(inlet.poll_read(context)), Ok(1..)) {
                return Poll::Ready(());
            }
        }
    }
}

/// Sends an answer, unless its caller is gone before it is sent, or reads it too slowly.
async fn send(
    response: Response<Body>,
    patience: Duration,
    asked: &mut Asked,
    reading: &mut Reading,
    writer: &mut OwnedWriteHalf,
) -> Result<(), Unsent<axum::Error>> {
    if let Reading::Lent(back) = reading {
        back.note_answer();
    }
    let mut message = response::message(response, asked);
    let mut has_looked = false;
    // There is one only for an answer that does not go at once.
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|context| {
        if !std::mem::replace(&mut has_looked, true) {
            // Nothing was sent, so the caller can still be told.
            if let Err(reason) = message.poll_first(context) {
                debug!(%reason, "an answer broke off before its first byte");
                message = response::message(response::broken(), asked);
            }
        }
        let sent = message.poll_send(Pin::new(&mut *writer), context)?;
        if sent.is_ready() {
            return Poll::Ready(Ok(()));
        }
        let timer = timer.get_or_insert_with(|| Box::pin(sleep(patience)));
        if timer.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::Error::from(ErrorKind::TimedOut).into()));
        }
        let _ = reading.poll_back(context);
        match reading {
            // Who sends all before it reads shall come to read.
            Reading::Unwanted(_) => {
                let _ = reading.poll_discard(context);
                Poll::Pending
            }
            Reading::Lent(_) => Poll::Pending,
            Reading::Ended(_) => {
                ready!(reading.poll_gone(context));
                Poll::Ready(Err(io::Error::from(ErrorKind::ConnectionReset).into()))
            }
        }
    })
    .await
}

async fn refuse(malformed: &Malformed, mut reading: Reading, mut writer: OwnedWriteHalf) {
    let mut asked = Asked {
        method: Method::GET,
        version: Version::HTTP_11,
        is_kept: false,
    };
    let refusal = response::refusal(malformed);
    let sent = send(refusal, PATIENCE, &mut asked, &mut reading, &mut writer).await;
    if sent.is_ok() {
        until_closed(reading, writer).await;
    }
}

/// Closes the connection so that what was sent over it is not taken for all there is: to HTTP/1.0 its
/// end is the end of an answer, too.
fn reset(writer: OwnedWriteHalf) {
    if let Err(reason) = writer.as_ref().set_zero_linger() {
        debug!(%reason, "cannot reset a connection");
    }
    // Dropped, it would end what was sent.
    writer.forget();
}

/// Closes the connection so that the caller has the answer before it: RFC 9112, 9.6.
async fn until_closed(mut reading: Reading, mut writer: OwnedWriteHalf) {
    if writer.shutdown().await.is_ok() {
        let discarding = poll_fn(|context| reading.poll_discard(context));
        let _ = timeout(PATIENCE, discarding).await;
    }
}
