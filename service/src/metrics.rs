//! The metrics that every process has, and how all metrics are rendered. All names of this crate's metrics are in this
//! file, but those of [`readiness`](crate::readiness) and of the [certificate](crate::tls).

use std::sync::LazyLock;

use metrics::{Gauge, Unit, describe_gauge, gauge};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use metrics_process::Collector;

/// 1 for the version and the role of this process.
const BUILD_INFO: &str = "evergreen_build_info";
/// Open connections to a listener.
const CONNECTIONS: &str = "evergreen_connections";

/// Upper bounds of the duration histograms in seconds, from a cache hit to an upload.
const DURATION_BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];

/// `process_*`: what the system knows of this process.
static PROCESS: LazyLock<Collector> = LazyLock::new(Collector::default);

/// A histogram, and the upper bounds of its buckets.
pub type Buckets = (&'static str, &'static [f64]);

/// A recorder of all metrics. Histograms that end with `_duration_seconds` and are not in `buckets` have the usual ones.
pub(crate) fn recorder(buckets: &[Buckets]) -> Result<PrometheusRecorder, BuildError> {
    let usual = Matcher::Suffix("_duration_seconds".to_owned());
    let mut builder = PrometheusBuilder::new().set_buckets_for_metric(usual, &DURATION_BUCKETS)?;
    for (name, bounds) in buckets {
        builder = builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), bounds)?;
    }
    Ok(builder.build_recorder())
}

/// Shows what this process is. `role`: such as `broker`.
pub fn describe_process(role: &'static str, version: &'static str) {
    describe_gauge!(BUILD_INFO, "1 for the version and the role of this process");
    gauge!(BUILD_INFO, "version" => version, "role" => role).set(1.0);
    PROCESS.describe();
}

/// The number of open connections to the listener of this name.
pub(crate) fn connections(listener: &'static str) -> Gauge {
    describe_gauge!(CONNECTIONS, Unit::Count, "Open connections, by listener");
    let connections = gauge!(CONNECTIONS, "listener" => listener);
    connections.set(0.0);
    connections
}

/// All metrics in the text format. Reads the numbers of the system first.
pub(crate) fn render(metrics: &PrometheusHandle) -> String {
    PROCESS.collect();
    without_absent(&metrics.render())
}

/// Without the series that have no value now. The recorder can remove none, so they are set to NaN.
fn without_absent(exposition: &str) -> String {
    let lines = exposition.split_inclusive('\n');
    lines
        .filter(|line| !line.trim_end().ends_with(" NaN"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_without_a_value_is_not_rendered() {
        let recorder = recorder(&[]).unwrap();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            gauge!("evergreen_a").set(1.5);
            gauge!("evergreen_b", "state" => "x").set(f64::NAN);
        });
        let rendered = without_absent(&handle.render());
        assert!(rendered.contains("\nevergreen_a 1.5\n"), "{rendered}");
        assert!(!rendered.contains("evergreen_b{"), "{rendered}");
    }

    #[test]
    fn histogram_has_the_buckets_of_its_name() {
        let recorder = recorder(&[("evergreen_own_duration_seconds", &[7.0])]).unwrap();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("evergreen_own_duration_seconds").record(3.0);
            metrics::histogram!("evergreen_other_duration_seconds").record(3.0);
        });
        let rendered = handle.render();
        for bucket in [
            "evergreen_own_duration_seconds_bucket{le=\"7\"} 1",
            "evergreen_other_duration_seconds_bucket{le=\"10\"} 1",
        ] {
            assert!(rendered.contains(bucket), "{rendered}");
        }
    }
}
