//! Executes a plan: each sequence injects its faults one after the other, and ends each before the next.

use std::time::Duration;

use serde_json::{Value, json};
use tests::fleet::{Fleet, Member};
use tests::redis::Redis;
use tests::sandbox::Sandbox;
use tests::sentinel::Sentinel;
use tests::wait::{holds, until};
use tests::wall_clock::WallClock;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::plan::{
    BrokerFault, ClockJump, FaultSequence, GatewayFault, GhlFailure, LockFault, Plan, Planned,
    REFUSES_CLIENT, StoreFault, Targeted,
};
use super::timeline::Timeline;

const PATIENCE: Duration = Duration::from_secs(90);
/// Within this time a broker reaches every step of a refresh.
const STEP_PATIENCE: Duration = Duration::from_secs(20);
const STOP: i32 = 19;
const CONTINUE: i32 = 18;

/// Executes the whole plan. All faults have ended when it returns.
///
/// `wall_clock`: the clock of a gateway, and of the broker without other faults.
pub(crate) async fn run(
    fleet: &mut Fleet<Sentinel>,
    wall_clock: &WallClock,
    plan: &Plan,
    timeline: &Timeline,
) {
    let timer = FaultTimer {
        began: Instant::now(),
        timeline,
    };
    let (first, second) = fleet.brokers.split_at_mut(1);
    let [one, two] = &plan.brokers;
    tokio::join!(
        brokers(&timer, one, &mut first[0], 0),
        brokers(&timer, two, &mut second[0], 1),
        gateways(&timer, &plan.gateways, &mut fleet.gateways),
        store(&timer, &plan.store, &mut fleet.redis.store),
        locks(&timer, &plan.locks, &mut fleet.redis.locks),
        ghl(&timer, &plan.ghl, &fleet.sandbox),
        clock_jumps(&timer, &plan.clock, wall_clock),
    );
}

struct FaultTimer<'a> {
    began: Instant,
    timeline: &'a Timeline,
}

impl FaultTimer<'_> {
    /// Waits until a fault is due. A fault that starts late, since the previous one took long to end, still has its
    /// full duration.
    async fn due<F: std::fmt::Debug>(&self, target: &str, planned: &Planned<F>) {
        sleep_until(self.began + planned.at).await;
        let (fault, lasts) = (&planned.fault, planned.lasts.as_secs_f64());
        self.record(format!("{target}: {fault:?} for {lasts:.1} s"));
    }

    fn record(&self, what: String) {
        self.timeline.record(what);
    }
}

async fn brokers(
    timer: &FaultTimer<'_>,
    sequence: &FaultSequence<BrokerFault>,
    broker: &mut Member,
    number: usize,
) {
    let target = format!("broker-{number}");
    for planned in sequence {
        timer.due(&target, planned).await;
        match planned.fault {
            BrokerFault::Kill => {
                end(timer, &target, broker).await;
                sleep(planned.lasts).await;
                broker.launch().await;
            }
            BrokerFault::LoseHost => {
                end(timer, &target, broker).await;
                sleep(planned.lasts).await;
                broker.delete_data();
                broker.launch().await;
            }
            BrokerFault::Stop => pause(broker, planned.lasts).await,
            BrokerFault::KillAt(step) => {
                arm(timer, &target, broker, step, "kill").await;
                let died = timeout(STEP_PATIENCE, async {
                    while !broker.program.as_mut().is_some_and(|it| it.has_ended()) {
                        sleep(Duration::from_millis(20)).await;
                    }
                });
                record_crash_point(timer, &target, step, died.await.is_ok());
                end(timer, &target, broker).await;
                sleep(planned.lasts).await;
                broker.launch().await;
            }
            BrokerFault::StopAt(step) => {
                arm(timer, &target, broker, step, "stop").await;
                let stopped = timeout(STEP_PATIENCE, async {
                    while !broker.program.as_ref().is_some_and(|it| it.is_stopped()) {
                        sleep(Duration::from_millis(20)).await;
                    }
                });
                record_crash_point(timer, &target, step, stopped.await.is_ok());
                pause(broker, planned.lasts).await;
            }
        }
        timer.record(format!("{target}: recovered"));
    }
}

/// Restarts the broker with a crash point.
async fn arm(timer: &FaultTimer<'_>, target: &str, broker: &mut Member, step: &str, how: &str) {
    end(timer, target, broker).await;
    broker.set([("TEST_CRASH_POINT", format!("{step} {how}"))]);
    // The crash point may be reached before the broker is ready.
    broker.spawn();
    broker.unset("TEST_CRASH_POINT");
}

fn record_crash_point(timer: &FaultTimer<'_>, target: &str, step: &str, was_reached: bool) {
    let what = if was_reached {
        "reached"
    } else {
        "did not reach"
    };
    timer.record(format!("{target}: {what} {step}"));
}

async fn end(timer: &FaultTimer<'_>, target: &str, member: &mut Member) {
    let log = member.kill().await;
    timer.timeline.keep_log(target, log);
}

async fn pause(member: &Member, lasts: Duration) {
    member.signal(STOP);
    sleep(lasts).await;
    member.signal(CONTINUE);
}

async fn gateways(
    timer: &FaultTimer<'_>,
    sequence: &FaultSequence<Targeted<GatewayFault>>,
    gateways: &mut [Member],
) {
    for planned in sequence {
        let number = planned.fault.which % gateways.len();
        let target = format!("gateway-{number}");
        timer.due(&target, planned).await;
        let gateway = &mut gateways[number];
        match planned.fault.fault {
            GatewayFault::Kill => {
                end(timer, &target, gateway).await;
                sleep(planned.lasts).await;
                gateway.launch().await;
            }
            GatewayFault::Stop => pause(gateway, planned.lasts).await,
        }
        timer.record(format!("{target}: recovered"));
    }
}

async fn store(
    timer: &FaultTimer<'_>,
    sequence: &FaultSequence<Targeted<StoreFault>>,
    group: &mut Sentinel,
) {
    for planned in sequence {
        timer.due("store", planned).await;
        let master = group.master().await;
        let count = group.servers.len();
        let replica = (master + 1 + planned.fault.which % (count - 1)) % count;
        match planned.fault.fault {
            StoreFault::KillMaster => {
                group.servers[master].kill().await;
                sleep(planned.lasts).await;
                group.wait_for_failover(master).await;
                group.servers[master].restart().await;
            }
            StoreFault::StopMaster => {
                group.servers[master].hang();
                sleep(planned.lasts).await;
                group.servers[master].resume();
            }
            StoreFault::FailOver => {
                group.fail_over().await;
                sleep(planned.lasts).await;
            }
            StoreFault::StopReplica => {
                group.servers[replica].hang();
                sleep(planned.lasts).await;
                group.servers[replica].resume();
            }
            StoreFault::StopBothReplicas => {
                let replicas = (0..count).filter(|server| *server != master);
                for server in replicas.clone() {
                    group.servers[server].hang();
                }
                sleep(planned.lasts).await;
                for server in replicas {
                    group.servers[server].resume();
                }
            }
        }
        wait_for_replication(group).await;
        let master = group.master().await;
        timer.record(format!("store: recovered, server {master} is the master"));
    }
}

/// Waits until there is one master and all other servers replicate from it.
async fn wait_for_replication(group: &Sentinel) {
    until("a master with all replicas", PATIENCE, || async {
        let master = group.master().await;
        let reply = group.run(master, &["INFO", "replication"]).await;
        let online = reply.matches("state=online").count();
        let is_complete = reply.contains("role:master") && online + 1 == group.servers.len();
        holds(is_complete, reply)
    })
    .await;
}

async fn locks(
    timer: &FaultTimer<'_>,
    sequence: &FaultSequence<Targeted<LockFault>>,
    nodes: &mut [Redis],
) {
    for planned in sequence {
        let number = planned.fault.which % nodes.len();
        let target = format!("lock node {number}");
        timer.due(&target, planned).await;
        let node = &mut nodes[number];
        match planned.fault.fault {
            LockFault::Kill => {
                node.kill().await;
                sleep(planned.lasts).await;
                node.restart().await;
            }
            LockFault::Hang => {
                node.hang();
                sleep(planned.lasts).await;
                node.resume();
            }
            LockFault::Forget => {
                node.kill().await;
                node.delete_data();
                sleep(planned.lasts).await;
                node.restart().await;
            }
        }
        timer.record(format!("{target}: recovered"));
    }
}

async fn ghl(timer: &FaultTimer<'_>, sequence: &FaultSequence<GhlFailure>, sandbox: &Sandbox) {
    sandbox.faults(json!([slow()])).await;
    for planned in sequence {
        timer.due("GHL", planned).await;
        sandbox.faults(json!([rule(&planned.fault), slow()])).await;
        sleep(planned.lasts).await;
        sandbox.faults(json!([slow()])).await;
        timer.record("GHL: recovered".to_owned());
    }
}

async fn clock_jumps(
    timer: &FaultTimer<'_>,
    sequence: &FaultSequence<ClockJump>,
    wall_clock: &WallClock,
) {
    for planned in sequence {
        timer.due("clock", planned).await;
        wall_clock.set(planned.fault.0);
        sleep(planned.lasts).await;
        wall_clock.set("+0");
        timer.record("clock: recovered".to_owned());
    }
}

/// Always active, so that some attempts are always in flight: a quarter of the responses is slow, after the token
/// was spent.
fn slow() -> Value {
    json!({
        "on": "token", "grant": "refresh_token", "kind": "slow_body", "ms": 700, "share": 0.25,
    })
}

fn rule(failure: &GhlFailure) -> Value {
    let what = match failure.kind {
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
        "loses the response" => json!({ "kind": "process_then_lose" }),
        REFUSES_CLIENT => json!({ "kind": "invalid_client" }),
        other => panic!("unknown failure {other}"),
    };
    let mut rule = what;
    rule["on"] = json!("token");
    rule["grant"] = json!("refresh_token");
    rule["share"] = json!(f64::from(failure.percent) / 100.0);
    // Every JSON parser can represent 53 bits exactly.
    rule["seed"] = json!(failure.seed >> 11);
    rule
}
