"""A proxy that lets nothing through and remembers who wanted out: what a client must not need.

An agent is given it as its proxy for everything but this machine, so that a connection to anywhere
else is seen and refused at once instead of waited for.
"""

import socketserver
import threading


class BlackHole:
    """Starts at once; `url` is the proxy, `wanted` the first lines of what it was asked."""

    def __init__(self):
        self.wanted, hole = [], self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                line = self.rfile.readline(2048).decode(errors="replace").strip()
                if line:
                    hole.wanted.append(line)
                self.wfile.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def env(self):
        """The variables that send a client's other traffic here."""
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        env = {name: self.url for name in names} | {name.lower(): self.url for name in names}
        direct = "127.0.0.1,localhost"
        return env | {"NO_PROXY": direct, "no_proxy": direct}

    def close(self):
        self.server.shutdown()
        self.server.server_close()
