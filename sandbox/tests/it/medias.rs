//! Uploads.

use bytes::Bytes;
use futures_util::stream;
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Method};
use serde_json::json;

use crate::harness::{Sandbox, answer};

const MIB: usize = 1024 * 1024;

/// A file that is streamed.
fn file(bytes: usize) -> Part {
    let piece = Bytes::from(vec![b'x'; 64 * 1024]);
    let pieces = (0..bytes.div_ceil(piece.len())).map(move |position| {
        let left = bytes - position * piece.len();
        Ok::<_, std::io::Error>(piece.slice(..left.min(piece.len())))
    });
    Part::stream(Body::wrap_stream(stream::iter(pieces))).file_name("photo.png")
}

#[tokio::test]
async fn upload_limit_is_25_mb() {
    let sandbox = Sandbox::start().await;
    let access = sandbox.install("loc1").await.access;
    let upload = |bytes| {
        let form = Form::new().part("file", file(bytes)).text("name", "Photo");
        sandbox
            .call(Method::POST, "/medias/upload-file", &access)
            .multipart(form)
    };
    let (status, body) = answer(upload(25 * MIB)).await;
    assert_eq!(status, 200, "{body}");
    assert!(body["fileId"].is_string());
    let url = body["url"].as_str().unwrap();
    assert!(url.contains("/loc1/media/"), "{url}");

    let (status, body) = answer(upload(25 * MIB + 1)).await;
    assert_eq!(status, 413);
    assert_eq!(
        body,
        json!({"statusCode": 413, "message": "File too large", "error": "Payload Too Large"})
    );

    let path =
        "/medias/files?altId=loc1&altType=location&sortBy=createdAt&sortOrder=desc&type=file";
    let (status, body) = answer(sandbox.call(Method::GET, path, &access)).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["files"].as_array().unwrap().len(), 1);
    assert_eq!(body["files"][0]["name"], "Photo");
    assert_eq!(body["files"][0]["size"], 25 * MIB);
}

#[tokio::test]
async fn hosted_file_needs_a_url() {
    let sandbox = Sandbox::start().await;
    let access = sandbox.install("loc1").await.access;
    let upload = |form| {
        sandbox
            .call(Method::POST, "/medias/upload-file/", &access)
            .multipart(form)
    };
    let hosted = || Form::new().text("hosted", "true");
    let form = hosted().text("fileUrl", "https://example.com/a/photo.jpeg");
    let (status, body) = answer(upload(form)).await;
    assert_eq!(status, 200, "{body}");
    assert!(body["url"].as_str().unwrap().ends_with(".jpeg"));
    for (form, message) in [
        (hosted(), "fileUrl is required"),
        (Form::new().text("name", "x"), "file is required"),
    ] {
        let (status, body) = answer(upload(form)).await;
        assert_eq!(status, 400);
        assert_eq!(body["message"], message);
    }
    let no_form = sandbox
        .call(Method::POST, "/medias/upload-file", &access)
        .body("x");
    assert_eq!(answer(no_form).await.0, 400);
}
