"""A network between one gateway and its store that can be cut: a TCP proxy in front of each server and each Sentinel."""

import select
import socket
import threading


class Network:
    """Proxies. `servers`, `sentinels`: from the port of a proxy to that of the process behind it.

    Sentinels name the address of the master. Their answers get the ports of proxies, which also have five digits.
    """

    def __init__(self, servers, sentinels):
        self.is_cut = threading.Event()
        renames = [(str(behind).encode(), str(proxy).encode()) for proxy, behind in servers.items()]
        for proxy, behind in servers.items():
            self.listen(proxy, behind, [])
        for proxy, behind in sentinels.items():
            self.listen(proxy, behind, renames)

    def cut(self):
        """From now on no byte arrives. Nobody is told, as when a cable is pulled."""
        self.is_cut.set()

    def mend(self):
        self.is_cut.clear()

    def listen(self, port, behind, renames):
        listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self.accept, args=(listener, behind, renames), daemon=True).start()

    def accept(self, listener, behind, renames):
        while True:
            near, _ = listener.accept()
            threading.Thread(target=self.forward, args=(near, behind, renames), daemon=True).start()

    def forward(self, near, behind, renames):
        far, was_cut = None, False
        try:
            while True:
                if self.is_cut.is_set():
                    was_cut = True
                elif was_cut:
                    # Bytes were lost, so this connection is of no use any more.
                    return
                elif far is None:
                    far = socket.create_connection(("127.0.0.1", behind), timeout=5)
                ready, _, _ = select.select([near, far] if far else [near], [], [], 0.1)
                for source in ready:
                    data = source.recv(65536)
                    if not data:
                        return
                    if self.is_cut.is_set():
                        was_cut = True
                    elif source is near and far:
                        far.sendall(data)
                    elif source is far:
                        for old, new in renames:
                            data = data.replace(old, new)
                        near.sendall(data)
                    else:
                        return
        except OSError:
            return
        finally:
            near.close()
            if far:
                far.close()
