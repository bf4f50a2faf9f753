//! A body names the installation. However it is encoded, GHL receives its bytes unchanged.

use futures_util::stream;
use reqwest::{Body, RequestBuilder};
use serde_json::json;
use tests::client::send;

use super::{EchoGateway, sha256};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data; boundary=b";

/// A body of unknown length.
fn chunked(bytes: &[u8]) -> Body {
    let pieces: Vec<_> = bytes.chunks(10_000).map(<[u8]>::to_vec).collect();
    Body::wrap_stream(stream::iter(
        pieces.into_iter().map(Ok::<_, std::io::Error>),
    ))
}

/// Bytes as gzip, without compression: stored blocks (RFC 1951, 3.2.4).
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let blocks: Vec<_> = bytes.chunks(65_535).collect();
    for (at, block) in blocks.iter().enumerate() {
        let length = u16::try_from(block.len()).unwrap();
        gzip.push(u8::from(at + 1 == blocks.len()));
        gzip.extend(length.to_le_bytes());
        gzip.extend((!length).to_le_bytes());
        gzip.extend(*block);
    }
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    });
    gzip.extend((!crc).to_le_bytes());
    gzip.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
    gzip
}

fn field(name: &str, value: &str) -> String {
    format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

/// A multipart form with a file of this many bytes.
fn upload(location: &str, file_bytes: usize) -> Vec<u8> {
    let file = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\n\r\n";
    let fields = field("name", "a") + &field("locationId", location) + file;
    [fields.as_bytes(), &vec![b'x'; file_bytes], b"\r\n--b--\r\n"].concat()
}

fn json_of(location: &str, bytes: usize) -> Vec<u8> {
    let mut text = json!({"x": 1, "locationId": location}).to_string();
    text.extend(std::iter::repeat_n(' ', bytes - text.len()));
    text.into_bytes()
}

impl EchoGateway {
    fn post_as(&self, content_type: &str) -> RequestBuilder {
        self.post("/ghl/x").header("content-type", content_type)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn location_is_found_in_bodies_of_every_encoding() {
    let gateway = EchoGateway::new().await;
    let marked = |text: &str| format!("\u{feff}{text}").into_bytes();
    let form = format!("a=1&locationId=locA&long={}", "x".repeat(100_000));
    for (content_type, sent) in [
        (JSON, json_of("locA", 50)),
        (JSON, json_of("locA", 256 * 1024)),
        (JSON, marked(r#"{"locationId":"locA"}"#)),
        (FORM, b"a=1&locationId=locA".to_vec()),
        (FORM, marked("locationId=locA")),
        (FORM, form.into_bytes()),
        (MULTIPART, upload("locA", 100)),
        (MULTIPART, upload("locA", 3_000_000)),
    ] {
        let sized = gateway.post_as(content_type).body(sent.clone());
        let streamed = gateway.post_as(content_type).body(chunked(&sent));
        for (request, has_length) in [(sized, true), (streamed, false)] {
            let what = format!("{content_type} {has_length} {}", sent.len());
            let arrived = gateway.arrived(request).await;
            assert_eq!(arrived["authClassId"], "locA", "{what}");
            assert_eq!(arrived["body_sha256"], sha256(&sent), "{what}");
            // A body that was read to its end is sent with its length.
            let is_short = sent.len() <= 64 * 1024 || content_type == JSON;
            let has_length = has_length || is_short;
            let length = has_length.then(|| json!(sent.len().to_string()));
            let arrived = arrived["headers"].get("content-length");
            assert_eq!(arrived, length.as_ref(), "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn location_is_found_in_gzip_that_is_forwarded_as_it_is() {
    let gateway = EchoGateway::new().await;
    for text in [json_of("locA", 50), json_of("locA", 200_000)] {
        let sent = gzip(&text);
        for body in [Body::from(sent.clone()), chunked(&sent)] {
            let request = gateway.post_as(JSON).header("content-encoding", "gzip");
            let arrived = gateway.arrived(request.body(body)).await;
            assert_eq!(arrived["authClassId"], "locA");
            assert_eq!(arrived["body_sha256"], sha256(&sent));
            assert_eq!(arrived["headers"]["content-encoding"], "gzip");
        }
    }
    let conflict = gateway
        .post_as(JSON)
        .header("content-encoding", "gzip")
        .header("x-installation-id", &gateway.location)
        .body(gzip(&json_of("locX", 50)));
    let (status, refusal) = send(conflict).await;
    assert_eq!(
        (status, &refusal["code"]),
        (400, &json!("installation_conflict"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unexamined_bodies_get_an_answer_that_names_the_header() {
    let gateway = EchoGateway::new().await;
    let large = json_of("locA", 256 * 1024 + 1);
    let expanding = gzip(&large);
    let beyond = [field("a", &"x".repeat(70_000)), field("locationId", "locA")].concat();
    for (content_type, coding, sent) in [
        (JSON, None, large.as_slice()),
        (JSON, Some("gzip"), expanding.as_slice()),
        (JSON, Some("gzip"), b"{\"locationId\":\"locA\"}"),
        (JSON, Some("deflate"), b"{\"locationId\":\"locA\"}"),
        (MULTIPART, None, beyond.as_bytes()),
    ] {
        for body in [Body::from(sent.to_vec()), chunked(sent)] {
            let request = |body| {
                let request = gateway.post_as(content_type).body(body);
                match coding {
                    Some(coding) => request.header("content-encoding", coding),
                    None => request,
                }
            };
            let (status, refusal) = send(request(body)).await;
            let what = format!("{content_type} {coding:?}: {refusal}");
            assert_eq!(
                (status, &refusal["code"]),
                (400, &json!("body_not_examined")),
                "{what}"
            );
            let hint = refusal["hint"].as_str().unwrap();
            assert!(hint.contains("X-Installation-Id"), "{what}");
            let named = request(chunked(sent)).header("x-installation-id", "locA");
            let arrived = gateway.arrived(named).await;
            assert_eq!(arrived["body_sha256"], sha256(sent), "{what}");
        }
    }
}
