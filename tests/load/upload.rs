//! A large upload is streamed, not buffered in memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::multipart::{Form, Part};
use tests::client;
use tests::up::Up;

#[tokio::test(flavor = "multi_thread")]
async fn upload_of_25_mb_is_streamed_with_constant_memory() {
    const FILE: usize = 25_000_000;
    const GROWTH_KB: u64 = 8 * 1024;
    let up = Up::start(&[]).await;
    let id = up.install("locA").await;
    let url = format!(
        "{}/api/ghl/medias/upload-file?installation_id={id}",
        up.public
    );
    let before = up.program.resident_kb();
    let peak = AtomicU64::new(before);
    let watch = async {
        loop {
            peak.fetch_max(up.program.resident_kb(), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let upload = async {
        let part = Part::bytes(vec![7; FILE])
            .file_name("film.mp4")
            .mime_str("video/mp4")
            .unwrap();
        let form = Form::new().text("name", "film").part("file", part);
        let response = up.client.post(&url).multipart(form).send().await.unwrap();
        assert_eq!(response.status(), 200);
        client::body(response).await
    };
    let made = tokio::select! {
        made = upload => made,
        () = watch => unreachable!("it runs forever"),
    };
    assert!(
        made["fileId"].is_string() && made["url"].is_string(),
        "{made}"
    );
    let grown = peak.into_inner() - before;
    assert!(
        grown < GROWTH_KB,
        "grew by {grown} kB over an upload of {FILE} bytes"
    );

    let hosted = Form::new()
        .text("hosted", "true")
        .text("fileUrl", "https://example.com/a.png");
    let response = up.client.post(&url).multipart(hosted).send().await.unwrap();
    assert_eq!(response.status(), 200);
}
