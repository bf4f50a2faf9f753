//! Mistakes in the settings of TLS.

use tests::certificates::Authority;
use tests::program::Start;
use tests::scratch::Scratch;

/// The message of a process that does not start, and nothing was bound.
async fn mistakes(start: Start) -> String {
    let scratch = Scratch::new();
    let output = start
        .env("EVERGREEN_DATA_DIR", scratch.join("data"))
        .run()
        .await;
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{message}");
    assert!(!message.contains("PRIVATE KEY-----\n"), "{message}");
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_files_end_every_command_and_say_what_to_do() {
    let authority = Authority::new("own");
    let (good, other) = (authority.issue("good", 1), authority.issue("other", 2));
    let expired = authority.issue_expired("expired");
    let key = std::fs::read_to_string(&good.key).unwrap();
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a str);
    let cases: &[Case<'_>] = &[
        (
            &[("EVERGREEN_TLS_CERT", &good.certificate)],
            "EVERGREEN_TLS_CERT needs EVERGREEN_TLS_KEY",
        ),
        (
            &[("EVERGREEN_TLS_KEY", &good.key)],
            "EVERGREEN_TLS_KEY needs EVERGREEN_TLS_CERT",
        ),
        (
            &[("EVERGREEN_TLS_CLIENT_CA", &good.certificate)],
            "EVERGREEN_TLS_CLIENT_CA needs TLS",
        ),
        (
            &[
                ("EVERGREEN_TLS_CERT", &good.certificate),
                ("EVERGREEN_TLS_KEY", &other.key),
            ],
            "EVERGREEN_TLS_KEY names the key of another certificate",
        ),
        (
            &[
                ("EVERGREEN_TLS_CERT", &good.certificate),
                ("EVERGREEN_TLS_KEY", &key),
            ],
            "EVERGREEN_TLS_KEY must be the path of a PEM file",
        ),
        (
            &[
                ("EVERGREEN_TLS_CERT", &expired.certificate),
                ("EVERGREEN_TLS_KEY", &expired.key),
            ],
            "EVERGREEN_TLS_CERT names a certificate that has expired",
        ),
        (
            &[("EVERGREEN_CA_FILE", "/nowhere")],
            "EVERGREEN_CA_FILE names a file that cannot be read",
        ),
        (
            &[("EVERGREEN_CA_FILE", &good.key)],
            "EVERGREEN_CA_FILE names a file without a certificate",
        ),
    ];
    for (settings, expected) in cases {
        for command in ["up", "broker", "gateway"] {
            let start = Start::evergreen(&[command]);
            let start = settings
                .iter()
                .fold(start, |start, (key, value)| start.env(key, value));
            let message = mistakes(start).await;
            let count = message
                .lines()
                .filter(|line| line.starts_with(expected))
                .count();
            assert_eq!(count, 1, "{command}: {expected}\n{message}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_redis_need_a_url_over_tls() {
    let authority = Authority::new("own");
    let ours = authority.issue("ours", 1);
    for command in ["broker", "gateway"] {
        let start = Start::evergreen(&[command])
            .env("EVERGREEN_REDIS_URL", "redis://127.0.0.1:1")
            .env("EVERGREEN_REDIS_CA_FILE", authority.file())
            .env("EVERGREEN_REDIS_CERT", &ours.certificate);
        let message = mistakes(start).await;
        for expected in [
            "EVERGREEN_REDIS_CA_FILE has no effect",
            "EVERGREEN_REDIS_CERT has no effect",
            "EVERGREEN_REDIS_CERT needs EVERGREEN_REDIS_KEY",
        ] {
            assert!(message.contains(expected), "{command}: {message}");
        }
    }
    let start = Start::evergreen(&["gateway"])
        .env("EVERGREEN_BROKER_URL", "https://127.0.0.1:1")
        .env("EVERGREEN_CLIENT_CERT", &ours.certificate);
    let message = mistakes(start).await;
    assert!(
        message.contains("EVERGREEN_CLIENT_CERT needs EVERGREEN_CLIENT_KEY"),
        "{message}"
    );
}
