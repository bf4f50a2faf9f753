"""The dashboard of all gateways."""

from panels.blocks import graph, processes, quantiles, row, stat

CALLS = 'evergreen_gateway_requests_total{route!~"health|preflight"}'

GATEWAY = [
    row("Failures"),
    stat(
        "5xx of evergreen",
        "percentunit",
        "Share of calls in the last five minutes that a gateway or a broker answered with 5xx. Above 1% somebody is paged.",
        "evergreen:own_errors:ratio_rate5m",
        red_from=0.01,
    ),
    stat(
        "5xx of GHL",
        "percentunit",
        "Share of calls to GHL in the last five minutes that ended in a 5xx or without an answer.",
        "evergreen:ghl_errors:ratio_rate5m",
        red_from=0.05,
    ),
    stat(
        "Gateways that are up",
        "short",
        "Gateways that Prometheus reaches. Without one every call fails.",
        'sum(up{job="gateway"})',
        red_below=1,
    ),
    stat(
        "Gateways that hear of new tokens",
        "short",
        "Gateways that get announcements of new tokens. The others read the store for every call.",
        'sum(evergreen_gateway_cache_coherent{job="gateway"})',
        red_below=1,
    ),
    stat(
        "Calls refused for lack of room",
        "short",
        "Calls in the last hour that a gateway answered with 503, because it was full.",
        "sum(increase(evergreen_gateway_shed_total[1h]))",
        red_from=1,
    ),
    stat(
        "Calls that wait",
        "short",
        "Calls that wait at this moment for their location's turn at GHL.",
        "sum(evergreen_gateway_queued)",
    ),
    graph(
        "5xx of evergreen by route",
        "reqps",
        "Calls per second that a gateway or a broker answered with 5xx. The gateways' logs have the reason of each.",
        ("{{route}}", 'sum by (route) (rate(evergreen_gateway_requests_total{by="evergreen",status_class="5xx"}[5m]))'),
    ),
    graph(
        "5xx of GHL by route",
        "reqps",
        "Calls per second that GHL answered with 5xx, or not at all.",
        ("{{route}}", 'sum by (route) (rate(evergreen_gateway_requests_total{by="ghl",status_class="5xx"}[5m]))'),
    ),
    graph(
        "Gateways that are not ready",
        "short",
        "Number of gateways that are not ready, by reason. /readyz of a gateway says what to do.",
        ("{{reason}}", 'sum by (reason) (evergreen_unready{job="gateway"})'),
    ),
    row("Calls"),
    graph(
        "Calls by status",
        "reqps",
        "Calls per second by the class of their status, and by who answered them. Health checks are left out.",
        ("{{by}} {{status_class}}", f"sum by (by, status_class) (rate({CALLS}[5m]))"),
    ),
    graph(
        "Calls by gateway",
        "reqps",
        "Calls per second, by gateway. A load balancer should keep them even.",
        ("{{instance}}", f"sum by (instance) (rate({CALLS}[5m]))"),
    ),
    graph(
        "Retries",
        "reqps",
        "Calls per second that a gateway sent to GHL again after a 502, 503, 504 or a broken connection.",
        ("retries", "sum(rate(evergreen_gateway_repeated_total[5m]))"),
    ),
    graph(
        "Duration of calls",
        "s",
        "From the head of a request to the head of its answer, GHL included. Half, 95% and 99% of the calls are faster.",
        *quantiles("evergreen_gateway_request_duration_seconds"),
    ),
    graph(
        "Duration of calls by route",
        "s",
        "95% of the calls of a route are faster.",
        *quantiles("evergreen_gateway_request_duration_seconds", ", route"),
    ),
    graph(
        "Lookups of tokens",
        "ops",
        "Lookups per second. hit: from memory. miss: read from the store. stale: from memory, since the store did not answer.",
        ("{{result}}", "sum by (result) (rate(evergreen_gateway_cache_total[5m]))"),
    ),
    graph(
        "Calls in progress",
        "short",
        "Calls to GHL that each gateway serves, until their callers have the whole answer.",
        ("{{instance}}", "sum by (instance) (evergreen_gateway_in_flight)"),
    ),
    row("GHL and tokens"),
    graph(
        "Answers of GHL",
        "reqps",
        "Attempts per second by the class of GHL's answer, retries included. error: GHL gave none.",
        ("{{status_class}}", "sum by (status_class) (rate(evergreen_gateway_upstream_responses_total[5m]))"),
    ),
    graph(
        "Duration of an attempt at GHL",
        "s",
        "From the head of the request to the head of GHL's answer. Half, 95% and 99% of the attempts are faster.",
        *quantiles("evergreen_gateway_upstream_duration_seconds"),
    ),
    graph(
        "Cured 401s",
        "ops",
        "Calls per second that GHL answered with 401 and, with a fresh token, with something else.",
        ("cured", "sum(rate(evergreen_gateway_cured_401_total[5m]))"),
    ),
    graph(
        "Wait for a fresh token",
        "s",
        "How long calls waited for a fresh token, if they had to.",
        *quantiles("evergreen_gateway_token_wait_duration_seconds"),
    ),
    graph(
        "Duration of requests to the store",
        "s",
        "Requests of gateways, for tokens that are not in memory and for keys. Half, 95% and 99% are faster.",
        *quantiles("evergreen_store_request_duration_seconds", job="gateway"),
    ),
    graph(
        "Errors of the store",
        "ops",
        "Requests of gateways per second that the store did not answer, by operation.",
        ("{{operation}}", 'sum by (operation) (rate(evergreen_store_errors_total{job="gateway"}[5m]))'),
    ),
    row("Limits"),
    graph(
        "Calls that a gateway refused with 429",
        "reqps",
        "Calls per second over a limit: of GHL's interval or day, of the queue, or of the key's quota.",
        ("{{limit}}", "sum by (limit) (rate(evergreen_gateway_limited_total[5m]))"),
    ),
    graph(
        "429s of GHL",
        "reqps",
        "Answers of GHL per second that refuse a call for its rate. Callers see few of them.",
        ("429", "sum(rate(evergreen_gateway_ghl_refused_total[5m]))"),
    ),
    graph(
        "Wait for a turn",
        "s",
        "How long calls waited for their location's turn at GHL, if they had to.",
        *quantiles("evergreen_gateway_queue_duration_seconds"),
    ),
    graph(
        "Reports that the audit log lacks",
        "short",
        "Events of the last hour that no broker took from a gateway in time.",
        ("dropped", "sum(increase(evergreen_gateway_audit_dropped_total[1h]))"),
    ),
    *processes("gateway"),
]
