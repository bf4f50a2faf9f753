"""The parts that dashboards are made of."""

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24


def variable(name, kind, query, **more):
    return {"name": name, "type": kind, "query": query, **more}


DATASOURCES = variable("datasource", "datasource", "prometheus", label="Prometheus")


def panel(kind, width, title, unit, description, queries, options, red_from=None, red_below=None):
    """A panel. `queries`: pairs of a legend and an expression."""
    steps = [{"color": "green", "value": None}]
    if red_from is not None:
        steps.append({"color": "red", "value": red_from})
    if red_below is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": red_below}]
    targets = [
        {"refId": chr(ord("A") + number), "expr": expr, "legendFormat": legend}
        for number, (legend, expr) in enumerate(queries)
    ]
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "gridPos": {"w": width, "h": 4 if kind == "stat" else 8},
        "fieldConfig": {
            "defaults": {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "options": options,
        "targets": targets,
    }


def stat(title, unit, description, expr, **red):
    options = {"colorMode": "background", "reduceOptions": {"calcs": ["lastNotNull"]}}
    return panel("stat", 4, title, unit, description, [("", expr)], options, **red)


def graph(title, unit, description, *queries):
    options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    return panel("timeseries", 8, title, unit, description, queries, options)


def quantiles(histogram, by="", job=""):
    selector = f'{{job="{job}"}}' if job else ""
    rate = f"sum by (le{by}) (rate({histogram}_bucket{selector}[5m]))"
    legend = "{{route}} " if by else ""
    levels = [("p95", 0.95)] if by else [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)]
    return [(legend + name, f"histogram_quantile({level}, {rate})") for name, level in levels]


def processes(job):
    """Panels about the processes of a job."""
    return [
        row("Processes"),
        graph(
            "Processor time",
            "short",
            "Cores that each process uses.",
            ("{{instance}}", f'rate(process_cpu_seconds_total{{job="{job}"}}[5m])'),
        ),
        graph(
            "Memory",
            "bytes",
            "Resident memory of each process.",
            ("{{instance}}", f'process_resident_memory_bytes{{job="{job}"}}'),
        ),
        graph(
            "Open files",
            "percentunit",
            "Share of the allowed file descriptors that each process has open. Each connection takes one.",
            ("{{instance}}", f'process_open_fds{{job="{job}"}} / process_max_fds{{job="{job}"}}'),
        ),
        graph(
            "Connections",
            "short",
            "Open connections to each process, by listener.",
            ("{{instance}}: {{listener}}", f'sum by (instance, listener) (evergreen_connections{{job="{job}"}})'),
        ),
        graph(
            "Versions",
            "short",
            "Number of processes of each version. There are two while replicas are updated.",
            ("{{version}}", f'count by (version) (evergreen_build_info{{job="{job}"}})'),
        ),
        graph(
            "Requests to the store by operation",
            "ops",
            "Requests per second. docs/metrics.md explains the operations.",
            (
                "{{operation}}",
                f'sum by (operation) (rate(evergreen_store_request_duration_seconds_count{{job="{job}"}}[5m]))',
            ),
        ),
    ]


def row(title):
    return {"type": "row", "title": title, "collapsed": False, "gridPos": {"w": WIDTH, "h": 1}, "panels": []}


def placed(panels):
    """Copies of the panels, each with its number and its place: from left to right, one height a line."""
    x = y = height = 0
    result = []
    for number, one in enumerate(panels, 1):
        place = one["gridPos"]
        if x + place["w"] > WIDTH or place["h"] != height:
            x, y, height = 0, y + height, place["h"]
        result.append({"id": number, **one, "gridPos": {**place, "x": x, "y": y}})
        x += place["w"]
    return result


def dashboard(uid, title, description, panels, variables=()):
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["evergreen"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [DATASOURCES, *variables]},
        "panels": placed(panels),
    }


NEAREST_EXPIRY = stat(
    "Until the first token expires",
    "s",
    "Time until the first live access token expires. Below 0 one has expired. Below five minutes somebody is paged.",
    "max(evergreen_nearest_expiry_timestamp_seconds) - time()",
    red_below=300,
)
