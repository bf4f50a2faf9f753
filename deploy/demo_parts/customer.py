"""A customer with a browser, and GHL's side of the sandbox."""

import http.client
import json
from urllib.parse import urlsplit

from demo_parts.processes import Failed


def connect(link, location):
    """Follows a link to GHL's consent page, chooses a location there, and comes back. Returns the installation's id."""
    status, _, body = come_back(link, location)
    try:
        return json.loads(body)["installationId"]
    except (ValueError, KeyError):
        raise Failed(f"{location} did not connect: {status} {body[:300]}") from None


def reconnect(link, location):
    """The same with a one-time link, which leads to a page for the customer."""
    status, headers, body = come_back(link, location)
    if status >= 400:
        raise Failed(f"{location} did not connect again: {status} {headers} {body[:300]}")


def come_back(link, location):
    page, cookie = redirect("GET", link)
    callback, _ = redirect("POST", f"{page}&locationId={location}")
    return request("GET", callback, {"Cookie": cookie})


def redirect(method, address):
    """Where an answer leads to, and its cookie."""
    status, headers, body = request(method, address)
    if "location" not in headers:
        raise Failed(f"{method} {address} leads nowhere: {status} {body[:300]}")
    return headers["location"], headers.get("set-cookie", "").split(";")[0]


def request(method, address, headers=None, body=None):
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, headers=headers or {}, body=body)
        answer = connection.getresponse()
        fields = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, fields, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise Failed(f"{method} {address}: {error!r}") from None
    finally:
        connection.close()


class Ghl:
    """The controls of the sandbox."""

    def __init__(self, port):
        self.address = f"http://127.0.0.1:{port}/_sandbox"

    def faults(self, *rules):
        """Replaces the rules by which calls fail."""
        headers = {"Content-Type": "application/json"}
        status, _, body = request("PUT", f"{self.address}/faults", headers, json.dumps(rules))
        if status >= 300:
            raise Failed(f"the sandbox refuses faults: {status} {body}")

    def ledger(self):
        """The sandbox's view: how often each refresh token was spent, and calls with bad tokens."""
        _, _, body = request("GET", f"{self.address}/ledger")
        return json.loads(body)
