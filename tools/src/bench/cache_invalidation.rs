//! The time from the commit of a refresh in Redis until every gateway serves the new token.

use std::time::Duration;

use clap::Args as Flags;
use tests::client;
use tests::fleet::Member;
use tests::propagation::PropagationProbe;
use tests::testbed::Testbed;

const GATEWAYS: usize = 3;
/// Long enough that no refresh falls due during the run.
const LIFETIME: &str = "24h";

#[derive(Debug, Flags)]
pub(crate) struct Args {
    /// The number of refreshes, one after the other
    #[arg(long, value_name = "N", default_value_t = 1000)]
    refreshes: usize,
}

pub(crate) async fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let testbed = Testbed::start(0, LIFETIME).await;
    let count = u64::try_from(args.refreshes)?;
    eprintln!("{}", testbed.seed(count, "0s").await);
    let unlimited_rate = [("EVERGREEN_REFRESH_RATE", "100000".to_owned())];
    let broker = testbed.broker("broker", &unlimited_rate).await;
    let mut gateways = Vec::new();
    for _ in 0..GATEWAYS {
        let broker = format!("http://{}", broker.address);
        gateways.push(Member::start(testbed.gateway().env("EVERGREEN_BROKER_URL", broker)).await);
    }
    let probe = PropagationProbe {
        client: client::new(),
        writer: testbed.writer(),
        broker: &broker,
        gateways: &gateways,
        pause: Duration::ZERO,
    };
    let mut times = Vec::new();
    for id in testbed.installations(args.refreshes).await {
        times.push(probe.refresh(&id).await);
    }
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!(
        "from the commit of a refresh until all of {GATEWAYS} gateways serve its token, \
         {} refreshes: p50 {:.2?}, p99 {:.2?}, longest {:.2?}",
        times.len(),
        at(50),
        at(99),
        at(100)
    );
    Ok(())
}
