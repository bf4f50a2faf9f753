//! Carries a plan out: each lane strikes, holds, and heals, one fault after the other.

use std::time::Duration;

use serde_json::{Value, json};
use tests::fleet::{Fleet, Member};
use tests::redis::Redis;
use tests::sandbox::Sandbox;
use tests::sentinel::Sentinel;
use tests::wait::{holds, until};
use tests::wall_clock::WallClock;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::chronicle::Chronicle;
use super::plan::{
    BrokerFault, GatewayFault, Jump, Lane, LockFault, Mood, Of, Plan, Planned, REFUSES_CLIENT,
    StoreFault,
};

const PATIENCE: Duration = Duration::from_secs(90);
/// A broker is sure to come to each step of a refresh within this.
const STEP_PATIENCE: Duration = Duration::from_secs(20);
const STOP: i32 = 19;
const CONTINUE: i32 = 18;

/// Runs the whole plan; everything is well again afterwards.
///
/// `wall_clock`: that of the broker that nothing else happens to, and of a gateway.
pub(crate) async fn run(
    fleet: &mut Fleet<Sentinel>,
    wall_clock: &WallClock,
    plan: &Plan,
    chronicle: &Chronicle,
) {
    let clock = Clock {
        began: Instant::now(),
        chronicle,
    };
    let (first, second) = fleet.brokers.split_at_mut(1);
    let [one, two] = &plan.brokers;
    tokio::join!(
        brokers(&clock, one, &mut first[0], 0),
        brokers(&clock, two, &mut second[0], 1),
        gateways(&clock, &plan.gateways, &mut fleet.gateways),
        store(&clock, &plan.store, &mut fleet.redis.store),
        locks(&clock, &plan.locks, &mut fleet.redis.locks),
        ghl(&clock, &plan.ghl, &fleet.sandbox),
        jumps(&clock, &plan.clock, wall_clock),
    );
}

struct Clock<'a> {
    began: Instant,
    chronicle: &'a Chronicle,
}

impl Clock<'_> {
    /// Waits for a fault's time. One that comes late, since the one before took long to heal, lasts
    /// as long all the same.
    async fn due<F: std::fmt::Debug>(&self, who: &str, planned: &Planned<F>) {
        sleep_until(self.began + planned.at).await;
        let (fault, lasts) = (&planned.fault, planned.lasts.as_secs_f64());
        self.tell(format!("{who}: {fault:?} for {lasts:.1} s"));
    }

    fn tell(&self, what: String) {
        self.chronicle.tell(what);
    }
}

async fn brokers(clock: &Clock<'_>, lane: &Lane<BrokerFault>, broker: &mut Member, number: usize) {
    let who = format!("broker-{number}");
    for planned in lane {
        clock.due(&who, planned).await;
        match planned.fault {
            BrokerFault::Kill => {
                end(clock, &who, broker).await;
                sleep(planned.lasts).await;
                broker.launch().await;
            }
            BrokerFault::LoseHost => {
                end(clock, &who, broker).await;
                sleep(planned.lasts).await;
                broker.lose_data();
                broker.launch().await;
            }
            BrokerFault::Stop => pause(broker, planned.lasts).await,
            BrokerFault::KillAt(step) => {
                arm(clock, &who, broker, step, "kill").await;
                let died = timeout(STEP_PATIENCE, async {
                    while !broker.program.as_mut().is_some_and(|it| it.has_ended()) {
                        sleep(Duration::from_millis(20)).await;
                    }
                });
                strike_or_say_so(clock, &who, step, died.await.is_ok());
                end(clock, &who, broker).await;
                sleep(planned.lasts).await;
                broker.launch().await;
            }
            BrokerFault::StopAt(step) => {
                arm(clock, &who, broker, step, "stop").await;
                let stopped = timeout(STEP_PATIENCE, async {
                    while !broker.program.as_ref().is_some_and(|it| it.is_stopped()) {
                        sleep(Duration::from_millis(20)).await;
                    }
                });
                strike_or_say_so(clock, &who, step, stopped.await.is_ok());
                pause(broker, planned.lasts).await;
            }
        }
        clock.tell(format!("{who}: well"));
    }
}

/// Starts it again so that it strikes itself.
async fn arm(clock: &Clock<'_>, who: &str, broker: &mut Member, step: &str, how: &str) {
    end(clock, who, broker).await;
    broker.set([("TEST_CRASH_POINT", format!("{step} {how}"))]);
    // It may be struck before it is ready.
    broker.spawn();
    broker.unset("TEST_CRASH_POINT");
}

fn strike_or_say_so(clock: &Clock<'_>, who: &str, step: &str, is_struck: bool) {
    let what = if is_struck { "struck" } else { "not struck" };
    clock.tell(format!("{who}: {what} at {step}"));
}

async fn end(clock: &Clock<'_>, who: &str, member: &mut Member) {
    let log = member.kill().await;
    clock.chronicle.keep_log(who, log);
}

async fn pause(member: &Member, lasts: Duration) {
    member.signal(STOP);
    sleep(lasts).await;
    member.signal(CONTINUE);
}

async fn gateways(clock: &Clock<'_>, lane: &Lane<Of<GatewayFault>>, gateways: &mut [Member]) {
    for planned in lane {
        let number = planned.fault.which % gateways.len();
        let who = format!("gateway-{number}");
        clock.due(&who, planned).await;
        let gateway = &mut gateways[number];
        match planned.fault.fault {
            GatewayFault::Kill => {
                end(clock, &who, gateway).await;
                sleep(planned.lasts).await;
                gateway.launch().await;
            }
            GatewayFault::Stop => pause(gateway, planned.lasts).await,
        }
        clock.tell(format!("{who}: well"));
    }
}

async fn store(clock: &Clock<'_>, lane: &Lane<Of<StoreFault>>, group: &mut Sentinel) {
    for planned in lane {
        clock.due("store", planned).await;
        let master = group.master().await;
        let count = group.servers.len();
        let replica = (master + 1 + planned.fault.which % (count - 1)) % count;
        match planned.fault.fault {
            StoreFault::KillMaster => {
                group.servers[master].kill().await;
                sleep(planned.lasts).await;
                group.wait_for_failover(master).await;
                group.servers[master].resume_process().await;
            }
            StoreFault::StopMaster => {
                group.servers[master].hang();
                sleep(planned.lasts).await;
                group.servers[master].wake();
            }
            StoreFault::FailOver => {
                group.fail_over().await;
                sleep(planned.lasts).await;
            }
            StoreFault::StopReplica => {
                group.servers[replica].hang();
                sleep(planned.lasts).await;
                group.servers[replica].wake();
            }
            StoreFault::StopBothReplicas => {
                let replicas = (0..count).filter(|server| *server != master);
                for server in replicas.clone() {
                    group.servers[server].hang();
                }
                sleep(planned.lasts).await;
                for server in replicas {
                    group.servers[server].wake();
                }
            }
        }
        settle(group).await;
        let master = group.master().await;
        clock.tell(format!("store: well, server {master} is the master"));
    }
}

/// Waits until there is one master and all others follow it.
async fn settle(group: &Sentinel) {
    until("a master with all replicas", PATIENCE, || async {
        let master = group.master().await;
        let told = group.run(master, &["INFO", "replication"]).await;
        let online = told.matches("state=online").count();
        let is_settled = told.contains("role:master") && online + 1 == group.servers.len();
        holds(is_settled, told)
    })
    .await;
}

async fn locks(clock: &Clock<'_>, lane: &Lane<Of<LockFault>>, nodes: &mut [Redis]) {
    for planned in lane {
        let number = planned.fault.which % nodes.len();
        let who = format!("lock node {number}");
        clock.due(&who, planned).await;
        let node = &mut nodes[number];
        match planned.fault.fault {
            LockFault::Kill => {
                node.kill().await;
                sleep(planned.lasts).await;
                node.resume_process().await;
            }
            LockFault::Hang => {
                node.hang();
                sleep(planned.lasts).await;
                node.wake();
            }
            LockFault::Forget => {
                node.kill().await;
                node.forget();
                sleep(planned.lasts).await;
                node.resume_process().await;
            }
        }
        clock.tell(format!("{who}: well"));
    }
}

async fn ghl(clock: &Clock<'_>, lane: &Lane<Mood>, sandbox: &Sandbox) {
    sandbox.faults(json!([slow()])).await;
    for planned in lane {
        clock.due("GHL", planned).await;
        sandbox.faults(json!([rule(&planned.fault), slow()])).await;
        sleep(planned.lasts).await;
        sandbox.faults(json!([slow()])).await;
        clock.tell("GHL: well".to_owned());
    }
}

async fn jumps(clock: &Clock<'_>, lane: &Lane<Jump>, wall_clock: &WallClock) {
    for planned in lane {
        clock.due("clock", planned).await;
        wall_clock.set(planned.fault.0);
        sleep(planned.lasts).await;
        wall_clock.set("+0");
        clock.tell("clock: right".to_owned());
    }
}

/// Always there, so that some attempts are under way whatever happens: a quarter of the answers
/// takes its time, after the token was spent.
fn slow() -> Value {
    json!({
        "on": "token", "grant": "refresh_token", "kind": "slow_body", "ms": 700, "share": 0.25,
    })
}

fn rule(mood: &Mood) -> Value {
    let what = match mood.kind {
        "500" => json!({ "kind": "status", "status": 500 }),
        "502" => json!({ "kind": "status", "status": 502 }),
        "503 with Retry-After" => json!({ "kind": "status", "status": 503, "retry_after": 3 }),
        "429" => json!({ "kind": "status", "status": 429 }),
        "429 with Retry-After" => json!({ "kind": "status", "status": 429, "retry_after": 2 }),
        "HTML" => json!({ "kind": "status", "status": 200, "body": "html" }),
        "truncated JSON" => json!({ "kind": "status", "status": 200, "body": "truncated_json" }),
        "only the tokens" => json!({ "kind": "status", "status": 200, "body": "missing_fields" }),
        "without refresh token" => {
            json!({ "kind": "status", "status": 200, "body": "missing_refresh_token" })
        }
        "hangs" => json!({ "kind": "hang", "ms": 5000 }),
        "resets before" => json!({ "kind": "reset_before" }),
        "loses the answer" => json!({ "kind": "process_then_lose" }),
        REFUSES_CLIENT => json!({ "kind": "invalid_client" }),
        other => panic!("GHL has no mood {other}"),
    };
    let mut rule = what;
    rule["on"] = json!("token");
    rule["grant"] = json!("refresh_token");
    rule["share"] = json!(f64::from(mood.percent) / 100.0);
    // 53 bits are a number in every JSON.
    rule["seed"] = json!(mood.seed >> 11);
    rule
}
