//! Deliveries to real servers on this machine.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response as Answer};
use axum::routing::any;
use axum::{Router, body};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::super::address::RefusedAddress;
use super::super::endpoint::{EndpointId, Wants};
use super::super::resolver::Addresses;
use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_614_265_330_999);
const BODY: &str = r#"{"test": 2432232314}"#;

/// A request that a server received.
#[derive(Debug)]
struct Received {
    headers: HeaderMap,
    body: Bytes,
}

type Log = Arc<Mutex<Vec<Received>>>;

fn endpoint(url: &str) -> Endpoint {
    Endpoint {
        id: EndpointId::default_one(),
        url: url.parse().unwrap(),
        secrets: vec!["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap()],
        wants: Wants::Events {
            types: Vec::new(),
            apps: Vec::new(),
        },
    }
}

fn config(private_addresses: PrivateAddresses) -> Config {
    // Another test may have done it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Config {
        private_addresses,
        authorities: Authorities::default(),
    }
}

/// A client without proxies, whose names all resolve to this machine.
fn client_of(config: &Config) -> Client {
    let lookup = |_| -> Addresses { Box::pin(async { Ok(vec![IpAddr::from([127, 0, 0, 1])]) }) };
    let resolver = GuardedResolver::new(config.private_addresses, Arc::new(lookup));
    Client::with(config, resolver, Matcher::builder().build()).unwrap()
}

fn client() -> Client {
    client_of(&config(PrivateAddresses::Allowed))
}

async fn send_with(client: &Client, url: &str, headers: &HeaderMap) -> Result<(), DeliveryError> {
    let message = Message {
        id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
        content_type: &HeaderValue::from_static("application/json"),
        headers,
        body: &Bytes::from_static(BODY.as_bytes()),
    };
    client.send(&endpoint(url), message, NOW).await
}

async fn send(client: &Client, url: &str) -> Result<(), DeliveryError> {
    send_with(client, url, &HeaderMap::new()).await
}

/// A server that answers each request so. Returns its address and what it receives.
async fn server(answer: impl Fn() -> Answer + Clone + Send + Sync + 'static) -> (SocketAddr, Log) {
    let log = Log::default();
    let noted = log.clone();
    let app = Router::new().fallback(any(move |request: Request| async move {
        let (parts, content) = request.into_parts();
        let body = body::to_bytes(content, 1 << 20).await.unwrap();
        noted.lock().unwrap().push(Received {
            headers: parts.headers,
            body,
        });
        answer()
    }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, log)
}

#[tokio::test]
async fn message_arrives_signed_with_its_headers_and_body() {
    let (address, log) = server(|| StatusCode::NO_CONTENT.into_response()).await;
    let extra = [
        ("x-ghl-signature", "c2ln"),
        ("user-agent", "GHL"),
        ("content-type", "text/plain"),
        ("webhook-signature", "v1,forged"),
        ("host", "elsewhere.example"),
        ("content-length", "1"),
        ("transfer-encoding", "chunked"),
    ];
    let extra = extra.map(|(name, value)| {
        let name: HeaderName = name.parse().unwrap();
        (name, HeaderValue::from_static(value))
    });
    let extra = HeaderMap::from_iter(extra);
    let url = format!("http://{address}/hook?a=b");
    send_with(&client(), &url, &extra).await.unwrap();
    let received = log.lock().unwrap().pop().unwrap();
    assert_eq!(received.body, BODY);
    for (name, value) in [
        ("content-type", "application/json"),
        ("user-agent", USER_AGENT),
        ("x-ghl-signature", "c2ln"),
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        (
            "webhook-signature",
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        ("host", &address.to_string()),
        ("content-length", &BODY.len().to_string()),
    ] {
        let all: Vec<_> = received.headers.get_all(name).iter().collect();
        assert_eq!(all, [value], "{name}");
    }
    assert!(!received.headers.contains_key("transfer-encoding"));
}

#[tokio::test]
async fn answer_beyond_2xx_is_an_error_with_an_excerpt() {
    for status in [400, 404, 410, 429, 500] {
        let (address, _) =
            server(move || (StatusCode::from_u16(status).unwrap(), "not\nnow").into_response())
                .await;
        let error = send(&client(), &format!("http://{address}")).await;
        let expected = DeliveryError::Status {
            status,
            excerpt: "not now".to_owned(),
        };
        assert_eq!(error, Err(expected));
    }
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let (target, reached) = server(|| StatusCode::OK.into_response()).await;
    let (address, _) = server(move || {
        let location = format!("http://{target}/");
        (StatusCode::TEMPORARY_REDIRECT, [("location", location)]).into_response()
    })
    .await;
    let error = send(&client(), &format!("http://{address}")).await;
    assert_eq!(error, Err(DeliveryError::Redirect(307)));
    assert!(reached.lock().unwrap().is_empty());
}

#[tokio::test]
async fn endless_answer_is_not_read_to_its_end() {
    let (address, _) = server(|| {
        let chunks =
            futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>("no ".repeat(100)));
        (StatusCode::BAD_GATEWAY, body::Body::from_stream(chunks)).into_response()
    })
    .await;
    let error = send(&client(), &format!("http://{address}")).await;
    assert_eq!(error.unwrap_err().kind(), "status");
}

/// A server that reads a request, answers with these bytes, and keeps the connection open.
async fn raw_server(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            held.push(stream);
        }
    });
    address
}

#[tokio::test(start_paused = true)]
async fn silent_endpoint_times_out() {
    let address = raw_server("").await;
    let began = Instant::now();
    let error = send(&client(), &format!("http://{address}")).await;
    assert_eq!(error, Err(DeliveryError::Timeout));
    assert!(began.elapsed() <= TIME_LIMIT + Duration::from_millis(10));
}

#[tokio::test]
async fn status_counts_though_the_body_stalls() {
    let address = raw_server("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nwait").await;
    assert_eq!(send(&client(), &format!("http://{address}")).await, Ok(()));
    let address = raw_server("HTTP/1.1 503 No\r\ncontent-length: 9\r\n\r\nwait").await;
    let error = send(&client(), &format!("http://{address}")).await;
    let expected = DeliveryError::Status {
        status: 503,
        excerpt: "wait".to_owned(),
    };
    assert_eq!(error, Err(expected));
}

#[tokio::test]
async fn endpoint_that_is_not_there_is_an_error_of_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = send(&client(), &format!("http://{address}/hunter2")).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), "connect");
    let message = error.to_string();
    assert!(
        message.contains("refused") && !message.contains("hunter2"),
        "{message}"
    );
}

#[tokio::test]
async fn broken_answer_is_an_error_of_its_own() {
    let address = raw_server("nonsense\r\n\r\n").await;
    let error = send(&client(), &format!("http://{address}"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), "other", "{error}");
}

#[tokio::test]
async fn private_address_is_not_connected_to() {
    let (address, reached) = server(|| StatusCode::OK.into_response()).await;
    let guarded = client_of(&config(PrivateAddresses::Refused));
    for host in [
        "127.0.0.1",
        "[::ffff:127.0.0.1]",
        "hook.example",
        "localhost",
    ] {
        let url = format!("http://{host}:{}/", address.port());
        let error = send(&guarded, &url).await.unwrap_err();
        assert_eq!(error.kind(), "refused_address", "{host}: {error}");
    }
    assert!(reached.lock().unwrap().is_empty());
    // The name works without the guard, so it is the guard that refuses.
    let url = format!("http://hook.example:{}/", address.port());
    assert_eq!(send(&client(), &url).await, Ok(()));
}

#[tokio::test]
async fn name_of_this_machine_is_resolved_by_the_system_and_reached_if_allowed() {
    let (address, reached) = server(|| StatusCode::OK.into_response()).await;
    let client = Client::new(&config(PrivateAddresses::Allowed)).unwrap();
    let url = format!("http://localhost:{}/", address.port());
    assert_eq!(send(&client, &url).await, Ok(()));
    assert_eq!(reached.lock().unwrap().len(), 1);
}

/// DNS rebinding: a name whose first answer is harmless.
#[tokio::test]
async fn each_connection_is_to_an_address_that_was_checked() {
    let (address, reached) = server(|| StatusCode::OK.into_response()).await;
    let asked = Arc::new(Mutex::new(0));
    let count = asked.clone();
    let lookup = move |_| -> Addresses {
        let mut asked = count.lock().unwrap();
        *asked += 1;
        // The first is of a network for documentation, where nobody answers.
        let found = if *asked == 1 {
            [192, 0, 2, 1]
        } else {
            [127, 0, 0, 1]
        };
        Box::pin(async move { Ok(vec![IpAddr::from(found)]) })
    };
    let config = config(PrivateAddresses::Refused);
    let resolver = GuardedResolver::new(config.private_addresses, Arc::new(lookup));
    let client = Client::with(&config, resolver, Matcher::builder().build()).unwrap();
    for expected in ["192.0.2.1", "127.0.0.1"] {
        let url = format!("http://rebinding.example:{}/", address.port());
        let error = send(&client, &url).await;
        let refused = RefusedAddress(expected.to_owned());
        assert_eq!(error, Err(DeliveryError::RefusedAddress(refused)));
    }
    assert_eq!(*asked.lock().unwrap(), 2);
    assert!(reached.lock().unwrap().is_empty());
}

#[tokio::test]
async fn name_that_cannot_be_resolved_is_an_error_of_dns() {
    let config = config(PrivateAddresses::Refused);
    let lookup =
        |_| -> Addresses { Box::pin(async { Err(std::io::Error::other("no such name")) }) };
    let resolver = GuardedResolver::new(config.private_addresses, Arc::new(lookup));
    let client = Client::with(&config, resolver, Matcher::builder().build()).unwrap();
    let error = send(&client, "https://hook.example/").await;
    let expected = "the name cannot be resolved: no such name".to_owned();
    assert_eq!(error, Err(DeliveryError::Dns(expected)));
}

/// Behind a proxy the name is checked as far as it can be resolved here.
#[tokio::test]
async fn name_of_a_private_address_is_refused_behind_a_proxy() {
    let config = config(PrivateAddresses::Refused);
    let lookup = |_| -> Addresses { Box::pin(async { Ok(vec![IpAddr::from([10, 0, 0, 1])]) }) };
    let resolver = GuardedResolver::new(config.private_addresses, Arc::new(lookup));
    let proxies = Matcher::builder().all("http://proxy.example:3128").build();
    let client = Client::with(&config, resolver, proxies).unwrap();
    assert!(client.has_proxy(&"https://hook.example".parse().unwrap()));
    assert!(!client.has_proxy(&"https://localhost".parse().unwrap()));
    let error = send(&client, "https://hook.example/").await.unwrap_err();
    assert_eq!(error.kind(), "refused_address", "{error}");
}

/// A server of TLS for `hook.example` with a certificate of its own. Returns the certificate in PEM.
async fn tls_server() -> (SocketAddr, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["hook.example".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let tls = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            stream.flush().await.unwrap();
        }
    });
    (address, certificate.pem())
}

#[tokio::test]
async fn certificate_must_be_trusted() {
    let untrusting = client();
    let (address, pem) = tls_server().await;
    let url = format!("https://hook.example:{}/", address.port());
    let error = send(&untrusting, &url).await.unwrap_err();
    assert_eq!(error.kind(), "tls", "{error}");
    // The same server, with its certificate in EVERGREEN_CA_FILE.
    let file = std::env::temp_dir().join(format!("evergreen-{}-events-ca", std::process::id()));
    std::fs::write(&file, pem).unwrap();
    let path = file.to_str().unwrap().to_owned();
    let source = HashMap::from([
        ("EVERGREEN_CA_FILE".to_owned(), path),
        (
            "EVERGREEN_EVENTS_ALLOW_PRIVATE".to_owned(),
            "true".to_owned(),
        ),
    ]);
    let mut settings = Settings::new(&source);
    let config = Config::read(&mut settings);
    let config = settings.finish(config).unwrap();
    assert_eq!(send(&client_of(&config), &url).await, Ok(()));
    std::fs::remove_file(file).unwrap();
    // A server that does not speak TLS.
    let plain = raw_server("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let error = send(&untrusting, &format!("https://{plain}/")).await;
    assert_eq!(error.unwrap_err().kind(), "tls");
}
