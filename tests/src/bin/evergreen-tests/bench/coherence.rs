//! From the commit of a refresh in Redis until every gateway serves the new token.

use std::time::Duration;

use clap::Args as Flags;
use reqwest::header::IF_NONE_MATCH;
use reqwest::{Client, StatusCode};
use store::{Generation, InstallationId};
use store_writer::StoreWriter;
use tests::bed::Bed;
use tests::client;
use tests::fleet::Member;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

const GATEWAYS: usize = 3;
/// Nothing falls due meanwhile.
const LIFETIME: &str = "24h";
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Flags)]
pub(crate) struct Args {
    /// Refreshes, one after the other
    #[arg(long, value_name = "N", default_value_t = 1000)]
    refreshes: usize,
}

pub(crate) async fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let bed = Bed::start(0, LIFETIME).await;
    let count = u64::try_from(args.refreshes)?;
    eprintln!("{}", bed.seed(count, "0s").await);
    let no_pace = [("EVERGREEN_REFRESH_RATE", "100000".to_owned())];
    let broker = bed.broker("broker", &no_pace).await;
    let mut gateways = Vec::new();
    for _ in 0..GATEWAYS {
        let broker = format!("http://{}", broker.address);
        gateways.push(Member::start(bed.gateway().env("EVERGREEN_BROKER_URL", broker)).await);
    }
    let (client, writer) = (client::new(), bed.writer());
    let mut times = Vec::new();
    for id in bed.installations(args.refreshes).await {
        times.push(one(&client, &writer, &broker, &gateways, &id).await);
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

/// Refreshes an installation whose token all gateways hold.
///
/// The time begins with the last look at the store that did not see the commit, and ends when the
/// last gateway has answered with the new token: it is not too short, and both looks are in it.
async fn one(
    client: &Client,
    writer: &StoreWriter,
    broker: &Member,
    gateways: &[Member],
    id: &InstallationId,
) -> Duration {
    let held = generation(writer, id).await;
    let url = |member: &Member, what| format!("{}/v1/installations/{id}/{what}", member.internal);
    let urls: Vec<String> = gateways.iter().map(|member| url(member, "token")).collect();
    for url in &urls {
        assert!(!has_moved_on(client, url, held).await, "{url}");
    }
    let mut served = JoinSet::new();
    for url in urls {
        let client = client.clone();
        served.spawn(async move {
            while !has_moved_on(&client, &url, held).await {}
            Instant::now()
        });
    }
    let committed = async {
        loop {
            let looked = Instant::now();
            if generation(writer, id).await > held {
                return looked;
            }
        }
    };
    // One look after the other, so the last one in vain began when the one before it ended.
    let refresh = client.post(url(broker, "refresh"));
    let (refreshed, committed, served) = timeout(PATIENCE, async {
        tokio::join!(client::send(refresh), committed, served.join_all())
    })
    .await
    .expect("a refresh takes no time here");
    assert_eq!(refreshed.0, 200, "{}", refreshed.1);
    let last = served.into_iter().max().expect("gateways");
    last.saturating_duration_since(committed)
}

async fn generation(writer: &StoreWriter, id: &InstallationId) -> Generation {
    let found = writer.load(id).await.expect("the store answers");
    found
        .expect("it is installed")
        .installation
        .access
        .generation
}

/// Whether the gateway at this URL has another token than that of this generation.
async fn has_moved_on(client: &Client, url: &str, held: Generation) -> bool {
    let asked = client.get(url).header(IF_NONE_MATCH, format!("\"{held}\""));
    let answer = asked.send().await.expect("an answer");
    match answer.status() {
        StatusCode::NOT_MODIFIED => false,
        StatusCode::OK => true,
        other => panic!("{other} from {url}"),
    }
}
