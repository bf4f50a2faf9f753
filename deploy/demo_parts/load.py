"""Calls at a constant rate through the load balancer, and refreshes meanwhile."""

import http.client
import itertools
import threading
import time

THREADS = 4


class Load:
    """Lists the products of these installations in turn, `rate` times a second, until `stop`."""

    def __init__(self, port, key, installations, rate):
        self.port, self.key, self.rate = port, key, rate
        self.lock = threading.Lock()
        self.names = itertools.cycle(installations)
        self.calls, self.failures, self.slowest = 0, [], 0.0
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(n,), daemon=True) for n in range(THREADS)]

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join(60)

    def run(self, number):
        pause = THREADS / self.rate
        due = time.monotonic() + pause * number / THREADS
        while not self.stopped.wait(max(0.0, due - time.monotonic())):
            due += pause
            with self.lock:
                name = next(self.names)
            self.call(name)

    def call(self, name):
        began = time.monotonic()
        status, text = self.answer(name)
        took = time.monotonic() - began
        with self.lock:
            self.calls += 1
            self.slowest = max(self.slowest, took)
            if status != 200:
                self.failures.append(f"{status} after {took:.1f} s: {text[:300]}")

    def answer(self, name):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        path = f"/api/ghl/products?installation_id={name}&limit=5&offset=0"
        try:
            connection.request("GET", path, headers={"X-Api-Key": self.key, "Connection": "close"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, repr(error)
        finally:
            connection.close()


class Refreshes:
    """Has the tokens of these installations refreshed in turn, as in a fleet in which one is always due."""

    def __init__(self, ports, key_of, installations, pause):
        self.ports, self.key_of, self.pause = itertools.cycle(ports), key_of, pause
        self.names = itertools.cycle(installations)
        self.is_held = threading.Event()
        self.done = 0
        self.thread = threading.Thread(target=self.run, daemon=True)

    def start(self):
        self.thread.start()
        return self

    def hold(self):
        self.is_held.set()

    def go_on(self):
        self.is_held.clear()

    def run(self):
        while True:
            time.sleep(self.pause)
            if self.is_held.is_set():
                continue
            port = next(self.ports)
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            try:
                path = f"/v1/installations/{next(self.names)}/refresh"
                connection.request("POST", path, headers={"X-Api-Key": self.key_of[port]})
                if connection.getresponse().status == 200:
                    self.done += 1
            except (OSError, http.client.HTTPException):
                # This broker restarts. The other one is asked next.
                pass
            finally:
                connection.close()
