"""The dashboard of one app."""

from panels.blocks import DATASOURCE, NEAREST_EXPIRY, graph, row, stat, variable

APPS = variable(
    "app",
    "query",
    "label_values(evergreen_token_endpoint_breaker_open, app)",
    label="App",
    datasource=DATASOURCE,
    refresh=2,
    sort=1,
)

APP = [
    row("The app $app"),
    stat(
        "Brokers that pause this app",
        "short",
        "Brokers that refresh nothing of this app, because GHL refuses its client id and secret.",
        'sum(evergreen_token_endpoint_breaker_open{app="$app"})',
        red_from=1,
    ),
    stat(
        "Installations without a broker",
        "short",
        "Installations of this app that are due and that no broker refreshes, because none knows the app.",
        'min(evergreen_unclaimed_installations{app="$app"})',
        red_from=1,
    ),
    stat(
        "Brokers that report on this app",
        "short",
        "Brokers that have this app in their settings, now or since their start.",
        'count(evergreen_token_endpoint_breaker_open{app="$app"})',
        red_below=1,
    ),
    graph(
        "Pauses by broker",
        "bool_yes_no",
        "Yes while the broker pauses this app. If it is one broker alone, compare its settings with those of the others.",
        ("{{instance}}", 'max by (instance) (evergreen_token_endpoint_breaker_open{app="$app"})'),
    ),
    graph(
        "Installations that a broker does not know",
        "short",
        "Installations of this app that are due, as each broker counts them. 0 for brokers that know the app.",
        ("{{instance}}", 'max by (instance) (evergreen_unclaimed_installations{app="$app"})'),
    ),
    row("All apps together"),
    NEAREST_EXPIRY,
    graph(
        "Refreshes that the credentials stop",
        "ops",
        "Attempts per second, of all apps, that GHL refused for the client id and secret, or that a pause held back, and those "
        "with an unknown client id.",
        (
            "{{outcome}}",
            "sum by (outcome) "
            '(rate(evergreen_refresh_total{outcome=~"client_rejected|credentials_paused|unknown_app"}[5m]))',
        ),
    ),
    graph(
        "Refreshes by outcome",
        "ops",
        "Attempts per second, of all apps. The log lines of refreshes name the installation.",
        ("{{outcome}}", "sum by (outcome) (rate(evergreen_refresh_total[5m]))"),
    ),
]
