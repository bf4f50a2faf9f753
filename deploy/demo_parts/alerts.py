"""The pager and the ticket system of the demonstration: an HTTP server that takes Alertmanager's notifications."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver:
    """Keeps each change of an alert as (`on-call` or `tickets`, `firing` or `resolved`, name, summary)."""

    def __init__(self, port):
        self.lock = threading.Lock()
        self.changes = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.take(self.path.strip("/"), json.loads(body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def take(self, receiver, notification):
        with self.lock:
            for alert in notification["alerts"]:
                labels, summary = alert["labels"], alert["annotations"].get("summary", "")
                change = (receiver, alert["status"], labels["alertname"], summary)
                if change not in self.changes:
                    self.changes.append(change)

    def find(self, receiver, status, name):
        """The summary of the first such change, or None."""
        with self.lock:
            for change in self.changes:
                if change[:3] == (receiver, status, name):
                    return change[3] or name
        return None

    def names(self, receiver):
        with self.lock:
            return sorted({change[2] for change in self.changes if change[0] == receiver})
