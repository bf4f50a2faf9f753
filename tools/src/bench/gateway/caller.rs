//! A connection that makes one call after another, for a known number of calls. wrk cannot do that.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::setup::BenchSetup;
use super::upstream::END;

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Caller {
    stream: TcpStream,
    request: String,
    response: Vec<u8>,
}

impl Caller {
    pub(super) async fn connect(setup: &BenchSetup, address: &str) -> Self {
        let stream = TcpStream::connect(address).await;
        Self {
            stream: stream.unwrap_or_else(|error| panic!("{address}: {error}")),
            request: setup.request("keep-alive"),
            response: Vec::new(),
        }
    }

    /// Makes a call and reads the whole response.
    pub(super) async fn call(&mut self) {
        let answered = timeout(PATIENCE, self.exchange()).await;
        let answered = answered.expect("a response in time");
        assert!(answered.is_ok(), "{answered:?}");
    }

    async fn exchange(&mut self) -> io::Result<()> {
        self.stream.write_all(self.request.as_bytes()).await?;
        self.response.clear();
        while !self.response.trim_ascii_end().ends_with(END.as_bytes()) {
            if self.stream.read_buf(&mut self.response).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }
}
