//! The loads.

/// What is asked for, and over what.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) path: &'static str,
    /// How much each request sends; 0: it is a GET.
    pub(super) body_bytes: usize,
    pub(super) connections: usize,
    pub(super) transport: UpstreamTransport,
    /// Load, upstream and proxy share a core, as in a chain where nobody waits for another core to
    /// wake up; the upstream without a proxy is measured, too.
    pub(super) is_on_one_core: bool,
}

/// How proxies reach the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bench) enum UpstreamTransport {
    Plain,
    /// TLS, and HTTP/2 for those who can.
    Tls,
}

const SMALL: Workload = Workload {
    name: "small",
    title: "2.3 KB answers, 64 connections",
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
        title: "2.3 KB answers, one connection, all on one core",
        connections: 1,
        is_on_one_core: true,
        ..SMALL
    },
    Workload {
        name: "large",
        title: "100 KB answers, 64 connections",
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
        title: "2.3 KB answers over TLS, 64 connections",
        transport: UpstreamTransport::Tls,
        ..SMALL
    },
];

/// For the command line.
pub(super) fn named(name: &str) -> Result<&'static Workload, String> {
    let found = WORKLOADS.iter().find(|workload| workload.name == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = WORKLOADS.iter().map(|workload| workload.name).collect();
        format!("one of {}", names.join(", "))
    })
}
