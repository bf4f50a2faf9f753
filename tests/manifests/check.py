"""Checks rendered manifests for what their schemas cannot say. Usage: check.py FILE…; prints each fault, exits with 1.

Each file is one deployment: what its Services, policies and budgets select is in it, too.
"""

import re
import sys
from pathlib import Path

import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
WORKLOADS = {"Deployment", "StatefulSet", "Job"}
# Only brokers may have these.
OF_BROKERS = re.compile(r"refresh-keys|ghl-client-secret|lock-urls|broker-redis-url|REFRESH_KEYS|LOCK_URLS|CLIENT_SECRET")


def seconds(value):
    return int(value.removesuffix("s"))


def of_pod(name, pod):
    """Pod security's profile `restricted`, a read-only disk, no account, and time for a shutdown."""
    spec = pod["spec"]
    context = spec.get("securityContext", {})
    yield context.get("runAsNonRoot") is True, f"{name} may run as root"
    yield context.get("seccompProfile") == {"type": "RuntimeDefault"}, f"{name} has no seccomp profile"
    yield spec.get("automountServiceAccountToken") is False, f"{name} has a token of its account"
    yield spec.get("enableServiceLinks") is False, f"{name} gets variables of Services"
    for container in spec["containers"]:
        context = container["securityContext"]
        yield context.get("allowPrivilegeEscalation") is False, f"{name} may get privileges"
        yield context.get("readOnlyRootFilesystem") is True, f"{name} may write to its image"
        yield context.get("capabilities") == {"drop": ["ALL"]}, f"{name} has capabilities"
        names = [variable["name"] for variable in container.get("env", [])]
        yield len(names) == len(set(names)), f"{name} has a setting twice: {names}"
        volumes = {volume["name"] for volume in spec.get("volumes", [])} | {"data"}
        mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
        yield mounts <= volumes, f"{name} mounts volumes that it does not have: {mounts - volumes}"
        if container["args"][0] not in ("broker", "gateway", "up"):
            continue
        settings = {variable["name"]: variable.get("value") for variable in container["env"]}
        shutdown = seconds(settings.get("EVERGREEN_DRAIN", "5s"))
        shutdown += seconds(settings.get("EVERGREEN_SHUTDOWN_TIMEOUT", "30s"))
        yield spec["terminationGracePeriodSeconds"] > shutdown, f"{name} is killed while it stops"
        for probe, path in (("readinessProbe", "/readyz"), ("livenessProbe", "/livez")):
            get = container[probe]["httpGet"]
            yield (get["path"], get["port"]) == (path, "internal"), f"{name}: {probe} is {get}"
            scheme = "HTTPS" if "EVERGREEN_TLS_CERT" in settings else "HTTP"
            yield get.get("scheme", "HTTP") == scheme, f"{name}: {probe} is not {scheme}"
        if container["args"][0] == "gateway":
            found = OF_BROKERS.search(yaml.safe_dump(pod))
            yield not found, f"{name} has what only brokers may have: {found and found.group()}"


def pods(documents):
    for document in documents:
        if document["kind"] in WORKLOADS:
            yield f"{document['kind']} {document['metadata']['name']}", document["spec"]["template"]


def matches(selector, pod):
    return selector.items() <= pod["metadata"]["labels"].items()


def of_selectors(documents):
    """Each selector selects pods of one kind, and ports with a name are theirs."""
    templates = [pod for _, pod in pods(documents)]
    for document in documents:
        kind, spec = document["kind"], document.get("spec", {})
        name = f"{kind} {document['metadata']['name']}"
        selector = {
            "Service": lambda: spec["selector"],
            "PodDisruptionBudget": lambda: spec["selector"]["matchLabels"],
            "NetworkPolicy": lambda: spec["podSelector"]["matchLabels"],
            "Deployment": lambda: spec["selector"]["matchLabels"],
            "StatefulSet": lambda: spec["selector"]["matchLabels"],
        }.get(kind)
        if not selector:
            continue
        selected = [pod for pod in templates if matches(selector(), pod)]
        yield len(selected) == 1, f"{name} selects {len(selected)} kinds of pods"
        ports = {port["name"] for pod in selected for container in pod["spec"]["containers"] for port in container["ports"]}
        named = [port["targetPort"] for port in spec.get("ports", [])] if kind == "Service" else []
        if kind == "NetworkPolicy":
            named = [port["port"] for rule in spec["ingress"] for port in rule["ports"]]
            yield all(rule.get("from", True) for rule in spec["ingress"]), f"{name}: an empty `from` is everybody"
            yield set(spec["policyTypes"]) == {"Ingress", "Egress"}, f"{name} leaves one direction open"
        yield set(named) <= ports, f"{name} names ports that its pods do not have: {named}"


def of_references(documents):
    """Services that others name exist, and a ServiceMonitor selects exactly one."""
    services = {document["metadata"]["name"]: document for document in documents if document["kind"] == "Service"}
    for document in documents:
        kind, spec = document["kind"], document.get("spec", {})
        name = f"{kind} {document['metadata']['name']}"
        if kind == "StatefulSet":
            yield spec["serviceName"] in services, f"{name} has no Service {spec['serviceName']}"
        if kind == "HorizontalPodAutoscaler":
            target = next(it for it in documents if it["kind"] == "Deployment" and it["metadata"]["name"] == spec["scaleTargetRef"]["name"])
            yield "replicas" not in target["spec"], f"{name} and its Deployment both set the number of pods"
        if kind == "Ingress":
            for path in spec["rules"][0]["http"]["paths"]:
                backend = path["backend"]["service"]["name"]
                yield backend in services, f"{name} has no Service {backend}"
        if kind == "ServiceMonitor":
            wanted = spec["selector"]["matchLabels"]
            found = [it for it in services.values() if wanted.items() <= it["metadata"]["labels"].items()]
            yield len(found) == 1, f"{name} selects {len(found)} Services"
            ports = {port["name"] for service in found for port in service["spec"]["ports"]}
            yield spec["endpoints"][0]["port"] in ports, f"{name} scrapes a port that is none"
    for name, pod in pods(documents):
        for container in pod["spec"]["containers"]:
            for variable in container.get("env", []):
                if variable["name"] == "EVERGREEN_BROKER_URL":
                    host = re.fullmatch(r"https?://([^:/]+):8081", variable["value"]).group(1)
                    yield host in services, f"{name} calls {host}, which is no Service"


def of_copies(documents):
    """Alerts and dashboards are those of this repository."""
    for document in documents:
        if document["kind"] == "PrometheusRule":
            rules = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())
            yield document["spec"] == rules, "the PrometheusRule is not prometheus/rules.yml"
    maps = [it for it in documents if it["kind"] == "ConfigMap" and "dashboard" in it["metadata"]["name"]]
    found = {name.removeprefix("evergreen-"): text for it in maps for name, text in it["data"].items()}
    if found:
        shipped = {path.name: path.read_text() for path in (DEPLOY / "grafana/dashboards").glob("*.json")}
        yield found == shipped, "the dashboards are not those of grafana/dashboards"


def faults(path):
    documents = [document for document in yaml.safe_load_all(Path(path).read_text()) if document]
    checked = list(of_selectors(documents)) + list(of_references(documents)) + list(of_copies(documents))
    for name, pod in pods(documents):
        checked += of_pod(name, pod)
    assert len(checked) > 10, f"{path} has next to nothing to check"
    return [fault for is_well, fault in checked if not is_well]


def main(paths):
    found = [f"{path}: {fault}" for path in paths for fault in faults(path)]
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
