//! Collects everything that leaves the processes, and searches it.

use std::path::Path;
use std::sync::{Arc, Mutex};

use reqwest::RequestBuilder;
use serde_json::Value;
use tests::client::body;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The planted secrets, and everything that came out.
#[derive(Default)]
pub(super) struct Search {
    /// Names and texts.
    pub(super) secrets: Vec<(String, String)>,
    /// Places and their contents.
    pub(super) found: Vec<(String, Vec<u8>)>,
}

impl Search {
    pub(super) fn plant(&mut self, name: &str, secret: &str) {
        // A shorter one may be in a file by chance.
        assert!(secret.len() >= 8, "{name} is too short");
        self.secrets.push((name.to_owned(), secret.to_owned()));
    }

    pub(super) fn collect(&mut self, place: impl Into<String>, content: impl Into<Vec<u8>>) {
        self.found.push((place.into(), content.into()));
    }

    /// The response, of which the body and the headers are searched.
    pub(super) async fn tell(&mut self, request: RequestBuilder) -> (u16, Value) {
        let place = format!("{request:?}");
        let place = place.split("headers").next().unwrap_or_default().to_owned();
        let response = request
            .send()
            .await
            .unwrap_or_else(|error| panic!("{place}: {error}"));
        let status = response.status().as_u16();
        let headers = format!("{:?}", response.headers());
        let body = body(response).await;
        self.collect(format!("the headers for {place}"), headers);
        self.collect(format!("the body for {place}"), body.to_string());
        (status, body)
    }

    /// All files below a directory. Other processes write there meanwhile.
    pub(super) fn collect_files(
        &mut self,
        directory: &Path,
        is_exempt: impl Fn(&Path) -> bool + Copy,
    ) {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                self.collect_files(&path, is_exempt);
            } else if let (false, Ok(content)) = (is_exempt(&path), std::fs::read(&path)) {
                self.collect(path.display().to_string(), content);
            }
        }
    }

    pub(super) fn content_of(&self, place: &str) -> &[u8] {
        let found = self.found.iter().find(|(name, _)| name.contains(place));
        &found
            .unwrap_or_else(|| panic!("{place} was not collected"))
            .1
    }

    pub(super) fn expect_no_secret(&self) {
        let mut leaks = Vec::new();
        for (place, content) in &self.found {
            for (name, secret) in &self.secrets {
                if let Some(at) = position(content, secret.as_bytes()) {
                    let around = &content[at.saturating_sub(120)..content.len().min(at + 60)];
                    let around = String::from_utf8_lossy(around).into_owned();
                    leaks.push(format!("{name} is in {place}: …{around}…"));
                }
            }
        }
        assert!(
            leaks.is_empty(),
            "{} leaks:\n{}",
            leaks.len(),
            leaks.join("\n")
        );
    }
}

pub(super) fn position(content: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = wanted.first()?;
    let starts = content
        .iter()
        .enumerate()
        .filter(|(_, byte)| *byte == first);
    let mut starts = starts.map(|(at, _)| at);
    starts.find(|at| content[*at..].starts_with(wanted))
}

/// Records everything that is sent to it.
pub(super) async fn collector() -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let received = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&received);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(record(stream, Arc::clone(&shared)));
        }
    });
    (url, received)
}

async fn record(mut stream: TcpStream, received: Arc<Mutex<Vec<u8>>>) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..count]);
        let Some(end) = request.windows(4).position(|it| it == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|it| it.parse().ok()).unwrap_or(0);
        if request.len() < end + 4 + length {
            continue;
        }
        received.lock().unwrap().append(&mut request);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .await?;
    }
}
