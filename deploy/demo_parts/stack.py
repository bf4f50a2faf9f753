"""Every process of a deployment, with the configuration files of `deploy/`, on loopback."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

from demo_parts.alerts import Receiver
from demo_parts.cut import Network
from demo_parts.processes import Failed, Ports, get, listens, until

DEPLOY = Path(__file__).resolve().parent.parent
MASTER = "store"
# Answers to `evergreen`'s questions about GHL's app. The sandbox knows no others unless it is told.
APP = {"GHL_CLIENT_ID": "sandbox-client", "GHL_CLIENT_SECRET": "sandbox-secret"}


class Stack:
    def __init__(self, evergreen, directory, processes):
        self.evergreen, self.directory, self.processes = evergreen, directory, processes
        self.ports = Ports()
        self.secrets = directory / "secrets"

    # --- Redis ------------------------------------------------------------------------------------------

    def start_redis(self):
        """A master with two replicas, three Sentinels, and three lock nodes."""
        self.store_ports = [self.ports.free() for _ in range(3)]
        self.sentinel_ports = [self.ports.free() for _ in range(3)]
        self.lock_ports = [self.ports.free() for _ in range(3)]
        sentinels = ",".join(f"127.0.0.1:{port}" for port in self.sentinel_ports)
        self.run(
            [DEPLOY / "make-secrets", self.secrets],
            STORE=f"redis-sentinel://{sentinels}/{MASTER}",
            LOCKS=" ".join(f"127.0.0.1:{port}" for port in self.lock_ports),
        )
        self.servers = [self.start_server(number) for number in range(3)]
        for server in self.servers:
            server.until_ready()
        until("replicas in sync", lambda: self.info(self.store_ports[0]).count("state=online") == 2)
        self.sentinels = [self.start_sentinel(number) for number in range(3)]
        until("Sentinels that know each other", self.sentinels_are_complete)
        self.locks = [self.start_lock(number) for number in range(3)]
        for lock in self.locks:
            lock.until_ready()

    def start_server(self, number):
        port = self.store_ports[number]
        password = self.secret("replica-password")
        options = ["--masteruser", "replica", "--masterauth", password, "--repl-diskless-sync-delay", "0"]
        options += ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "2"]
        if number > 0:
            options += ["--replicaof", "127.0.0.1", self.store_ports[0]]
        return self.redis(f"store-{number + 1}", "redis.conf", "store-users.acl", port, options)

    def start_lock(self, number):
        return self.redis(f"lock-{number + 1}", "redis-lock.conf", "lock-users.acl", self.lock_ports[number], [])

    def redis(self, name, config, users, port, options):
        data = self.directory / name
        data.mkdir()
        # A copy, since Redis writes to it after a failover.
        own = shutil.copy(DEPLOY / config, self.directory / f"{name}.conf")
        command = ["redis-server", own, "--aclfile", self.secrets / users, "--dir", data]
        command += ["--port", port, "--bind", "127.0.0.1", *options]
        return self.processes.start(name, command, is_ready=lambda: listens(port) and self.is_loaded(port))

    def start_sentinel(self, number):
        port = self.sentinel_ports[number]
        config = self.directory / f"sentinel-{number + 1}.conf"
        config.write_text(
            f"""dir {self.directory}
port {port}
bind 127.0.0.1
sentinel monitor {MASTER} 127.0.0.1 {self.store_ports[0]} 2
sentinel auth-user {MASTER} sentinel
sentinel auth-pass {MASTER} {self.secret("sentinel-password")}
sentinel down-after-milliseconds {MASTER} 2000
sentinel failover-timeout {MASTER} 6000
sentinel parallel-syncs {MASTER} 2
"""
        )
        # Debian has `redis-sentinel` in a package of its own. It is the same program.
        command = ["redis-server", config, "--sentinel"]
        return self.processes.start(f"sentinel-{number + 1}", command, is_ready=lambda: listens(port))

    def cli(self, port, *command, user="operator"):
        """The answer of a server, or of a Sentinel with `user=None`. Empty if it does not answer."""
        login = ["--user", user, "--no-auth-warning"] if user else []
        environment = {"PATH": os.environ["PATH"]}
        if user:
            environment["REDISCLI_AUTH"] = self.secret("operator-password")
        words = ["redis-cli", "-p", str(port), *login, *map(str, command)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=10)
        return done.stdout

    def is_loaded(self, port):
        return "loading:0" in self.cli(port, "info", "persistence")

    def info(self, port):
        return self.cli(port, "info", "replication")

    def sentinels_are_complete(self):
        def knows(port):
            lines = self.cli(port, "sentinel", "master", MASTER, user=None).split()
            pairs = dict(zip(lines[::2], lines[1::2]))
            return pairs.get("num-slaves") == "2" and pairs.get("num-other-sentinels") == "2"

        return all(knows(port) for port in self.sentinel_ports)

    def master(self):
        """The index of the server that Sentinels name."""
        lines = self.cli(self.sentinel_ports[0], "sentinel", "get-master-addr-by-name", MASTER, user=None).split()
        return self.store_ports.index(int(lines[-1])) if lines else None

    def until_replicated(self):
        """Waits until the master has both replicas, and Sentinels know."""
        until("two replicas in sync", lambda: self.replicas() == 2, 60)

    def replicas(self):
        master = self.master()
        return 0 if master is None else self.info(self.store_ports[master]).count("state=online")

    def roll_server(self, number):
        """Restarts a server of the store that is not the master."""
        port = self.store_ports[number]

        def is_quiet():
            return "aof_rewrite_in_progress:0" in self.cli(port, "info", "persistence")

        # A replica that was just filled writes its file anew, and refuses to stop meanwhile.
        until(f"{self.servers[number].name} to rest", lambda: is_quiet() and not time.sleep(1) and is_quiet())
        self.servers[number].roll()
        self.until_replicated()

    # --- evergreen ----------------------------------------------------------------------------------------

    def start_sandbox(self):
        self.sandbox_port = self.ports.free()
        environment = {
            "EVERGREEN_SANDBOX_LISTEN": f"127.0.0.1:{self.sandbox_port}",
            # Everything here is one app that calls from one machine.
            "EVERGREEN_SANDBOX_RATE_LIMIT": 0,
            "EVERGREEN_SANDBOX_DAILY_LIMIT": 0,
        }
        sandbox = self.processes.start(
            "sandbox", [self.evergreen, "sandbox"], environment=environment, is_ready=lambda: listens(self.sandbox_port)
        )
        sandbox.until_ready()
        return sandbox

    def common(self, public, internal):
        return {
            "EVERGREEN_LISTEN": f"127.0.0.1:{public}",
            "EVERGREEN_INTERNAL_LISTEN": f"127.0.0.1:{internal}",
            "EVERGREEN_ACCESS_KEYS_FILE": self.secrets / "access-keys",
            "GHL_API_URL": f"http://127.0.0.1:{self.sandbox_port}",
            # As beyond loopback, but shorter: the load balancer checks twice a second.
            "EVERGREEN_DRAIN": "2s",
        }

    def start_brokers(self):
        self.balancer_port = self.ports.free()
        self.brokers, self.broker_ports = [], []
        for number in (1, 2):
            public, internal = self.ports.free(), self.ports.free()
            environment = self.common(public, internal) | APP
            environment |= {
                "GHL_AUTHORIZE_URL": f"http://127.0.0.1:{self.sandbox_port}/v2/oauth/chooselocation",
                "GHL_REDIRECT_URI": f"http://127.0.0.1:{self.balancer_port}/oauth/callback",
                "EVERGREEN_BROKER_NAME": f"broker-{number}",
                "EVERGREEN_DATA_DIR": self.data(number),
                "EVERGREEN_ALLOW_TMPFS": "true",
                "EVERGREEN_REDIS_URL_FILE": self.secrets / "broker-redis-url",
                "EVERGREEN_LOCK_URLS_FILE": self.secrets / "lock-urls",
                "EVERGREEN_REFRESH_KEYS_FILE": self.secrets / "refresh-keys",
            }
            broker = self.processes.start(
                f"broker-{number}", [self.evergreen, "broker"], environment=environment, is_ready=ready(internal)
            )
            self.brokers.append(broker)
            self.broker_ports.append((public, internal))
        for broker in self.brokers:
            broker.until_ready()

    def data(self, number):
        return self.directory / f"broker-{number}"

    def admin_key(self, number):
        return (self.data(number) / "admin.key").read_text().strip()

    def start_gateways(self):
        """Three, of which the last reaches the store over a network that can be cut."""
        servers = {self.ports.free(): port for port in self.store_ports}
        sentinels = {self.ports.free(): port for port in self.sentinel_ports}
        self.network = Network(servers, sentinels)
        url = self.secret("gateway-redis-url")
        for proxy, behind in sentinels.items():
            url = url.replace(f":{behind}", f":{proxy}")
        apart = self.directory / "gateway-3-redis-url"
        apart.write_text(url)
        apart.chmod(0o600)
        self.gateways, self.gateway_ports = [], []
        for number in (1, 2, 3):
            public, internal = self.ports.free(), self.ports.free()
            broker, _ = self.broker_ports[number % 2]
            environment = self.common(public, internal) | {
                "EVERGREEN_REDIS_URL_FILE": apart if number == 3 else self.secrets / "gateway-redis-url",
                "EVERGREEN_BROKER_URL": f"http://127.0.0.1:{broker}",
            }
            gateway = self.processes.start(
                f"gateway-{number}", [self.evergreen, "gateway"], environment=environment, is_ready=ready(internal)
            )
            self.gateways.append(gateway)
            self.gateway_ports.append((public, internal))
        for gateway in self.gateways:
            gateway.until_ready()

    def start_balancer(self):
        environment = {"EVERGREEN_LB_BIND": f"127.0.0.1:{self.balancer_port}"}
        for number, (public, internal) in enumerate(self.gateway_ports, 1):
            environment[f"GATEWAY_{number}"] = f"127.0.0.1:{public}"
            environment[f"READY_PORT_{number}"] = internal
        # With a master process, which can load the configuration again without closing the listener.
        self.balancer = self.processes.start(
            "haproxy",
            ["haproxy", "-W", "-f", DEPLOY / "haproxy.cfg"],
            environment=environment,
            is_ready=lambda: get(self.balancer_port, "/health")[0] == 200,
        )
        self.balancer.until_ready()

    def balancer_says(self, gateway):
        """`UP` or `DOWN`: what HAProxy last logged of a gateway. It believes in each until the first failed check."""
        server = f"Server gateways/gateway-{gateway} is "
        found = [line.split(server)[1] for line in self.balancer.lines() if server in line]
        return found[-1].split()[0].rstrip(",.") if found else "UP"

    def evergreen_cli(self, *arguments):
        """The output of a command, at the first broker."""
        _, internal = self.broker_ports[0]
        return self.run(
            [self.evergreen, *arguments],
            EVERGREEN_ADMIN_URL=f"http://127.0.0.1:{internal}",
            EVERGREEN_DATA_DIR=self.data(1),
        )

    # --- monitoring -----------------------------------------------------------------------------------------

    def start_monitoring(self):
        """Prometheus and Alertmanager with the rules and routes of `deploy/`. Only addresses and intervals are others."""
        receiver, alertmanager, prometheus = (self.ports.free() for _ in range(3))
        self.receiver = Receiver(receiver)
        routes = (DEPLOY / "alertmanager.yml").read_text()
        for name in ("on-call", "tickets"):
            url = f"http://127.0.0.1:{receiver}/{name}"
            entry = f"  - name: {name}\n"
            routes = routes.replace(entry, f"{entry}    webhook_configs: [{{ url: '{url}', send_resolved: true }}]\n")
        config = self.directory / "alertmanager.yml"
        config.write_text(routes)
        self.processes.start(
            "alertmanager",
            [
                program("prometheus-alertmanager", "alertmanager"),
                f"--config.file={config}",
                f"--storage.path={self.directory / 'alertmanager'}",
                f"--web.listen-address=127.0.0.1:{alertmanager}",
                "--cluster.listen-address=",
            ],
            is_ready=lambda: get(alertmanager, "/-/ready")[0] == 200,
        ).until_ready()
        jobs = {
            "broker": [internal for _, internal in self.broker_ports],
            "gateway": [internal for _, internal in self.gateway_ports],
        }
        scrapes = [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
            for job, ports in jobs.items()
        ]
        # JSON is YAML.
        config = self.directory / "prometheus.yml"
        config.write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "2s"},
                    "rule_files": [str(DEPLOY / "prometheus" / "rules.yml")],
                    "alerting": {
                        "alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]
                    },
                    "scrape_configs": scrapes,
                }
            )
        )
        self.prometheus_port = prometheus
        self.processes.start(
            "prometheus",
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={self.directory / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{prometheus}",
            ],
            is_ready=lambda: get(prometheus, "/-/ready")[0] == 200,
        ).until_ready()

    # --- both -------------------------------------------------------------------------------------------------

    def secret(self, name):
        return (self.secrets / name).read_text().strip()

    def run(self, command, **environment):
        words = [str(word) for word in command]
        values = {"PATH": os.environ["PATH"]} | {key: str(value) for key, value in environment.items()}
        done = subprocess.run(words, env=values, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise Failed(f"{' '.join(words)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout


def ready(internal):
    return lambda: get(internal, "/readyz")[0] == 200


def program(*names):
    """The first of these programs that is there."""
    for name in names:
        for directory in os.environ["PATH"].split(os.pathsep):
            if os.access(Path(directory) / name, os.X_OK):
                return name
    return names[0]
