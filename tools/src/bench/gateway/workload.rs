//! The workloads.

/// A kind of request, and the number and transport of its connections.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) path: &'static str,
    /// The size of each request's body. 0 means a GET.
    pub(super) body_bytes: usize,
    pub(super) connections: usize,
    pub(super) transport: UpstreamTransport,
    /// Load, upstream and proxy share a core. This excludes the time to wake up another core. The upstream without a
    /// proxy is measured, too.
    pub(super) is_on_one_core: bool,
}

/// How proxies reach the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bench) enum UpstreamTransport {
    Plain,
    /// TLS, with HTTP/2 if the proxy supports it.
    Tls,
}

const SMALL: Workload = Workload {
    name: "small",
    title: "2.3 KB responses, 64 connections",
    path: "/contacts/small.json",
    body_bytes: 0,
    connections: 64,
    transport: UpstreamTransport::Plain,
    is_on_one_core: false,
};

pub(super) static WORKLOADS: [Workload; 5] = [
    SMALL,
    Workload {
        name: "one",
        title: "2.3 KB responses, one connection, all on one core",
        connections: 1,
        is_on_one_core: true,
        ..SMALL
    },
    Workload {
        name: "large",
        title: "100 KB responses, 64 connections",
        path: "/contacts/large.json",
        ..SMALL
    },
    Workload {
        name: "upload",
        title: "1 MB uploads, 16 connections",
        path: "/medias/upload-file",
        body_bytes: 1_000_000,
        connections: 16,
        ..SMALL
    },
    Workload {
        name: "tls",
        title: "2.3 KB responses over TLS, 64 connections",
        transport: UpstreamTransport::Tls,
        ..SMALL
    },
];

/// Parses the name of a workload on the command line.
pub(super) fn named(name: &str) -> Result<&'static Workload, String> {
    let found = WORKLOADS.iter().find(|workload| workload.name == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = WORKLOADS.iter().map(|workload| workload.name).collect();
        format!("one of {}", names.join(", "))
    })
}
