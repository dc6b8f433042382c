#!/usr/bin/env python3
"""Looks at live_page in a browser, against a PostgreSQL server.

    cargo build -p pgbell-testkit -p pgbell-demos && demos/browser.py

It starts a temporary server, live_page, and a headless Chromium with one page for server-sent events and one for a WebSocket. It sends
notifications, ends the session of the hub, restarts live_page, and checks after each step what both pages show. The exit code is 1 if
something is not shown in time.

It needs Chromium (in the PATH, or named by PGBELL_CHROMIUM), libpq, and nothing but Python's standard library.
"""

import base64
import contextlib
import ctypes
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
STEP_SECONDS = 20


def wait_for(what, condition):
    """Waits until the condition is true, and returns its value."""
    deadline = time.monotonic() + STEP_SECONDS
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {STEP_SECONDS} s")
        time.sleep(0.05)
    return value


class Program:
    """A program that prints its address as the first line."""

    def __init__(self, name, *arguments):
        self.name = name
        self.process = subprocess.Popen(
            [PROGRAMS / name, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError(f"{name} has not started: exit code {self.process.wait()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(STEP_SECONDS)

    def stop(self):
        """Ends it with SIGTERM, and checks the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(STEP_SECONDS)
        if code != 0:
            raise RuntimeError(f"{self.name} ended with exit code {code}")


class Database:
    """A session of libpq."""

    def __init__(self, url):
        self.libpq = ctypes.CDLL("libpq.so.5")
        for name in ("PQconnectdb", "PQexec"):
            getattr(self.libpq, name).restype = ctypes.c_void_p
        for name in ("PQerrorMessage", "PQgetvalue"):
            getattr(self.libpq, name).restype = ctypes.c_char_p
        self.session = ctypes.c_void_p(self.libpq.PQconnectdb(url.encode()))
        if self.libpq.PQstatus(self.session) != 0:
            raise RuntimeError(self.libpq.PQerrorMessage(self.session).decode())

    def value(self, sql):
        """Returns the first value of a query."""
        result = ctypes.c_void_p(self.libpq.PQexec(self.session, sql.encode()))
        try:
            if self.libpq.PQntuples(result) < 1:
                raise RuntimeError(self.libpq.PQerrorMessage(self.session).decode() or "no row")
            return self.libpq.PQgetvalue(result, 0, 0).decode()
        finally:
            self.libpq.PQclear(result)

    def send(self, text):
        self.value(f"SELECT pg_notify('live_page', 'lobby:{text}')")


class WebSocket:
    """The client side of a WebSocket, as far as the browser's debugging protocol needs it."""

    def __init__(self, url):
        host, path = url.removeprefix("ws://").split("/", 1)
        name, port = host.split(":")
        self.socket = socket.create_connection((name, int(port)), STEP_SECONDS)
        self.input = self.socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        status = self.input.readline()
        if b" 101 " not in status:
            raise RuntimeError(f"no WebSocket: {status}")
        while self.input.readline().strip():
            pass

    def send(self, text):
        data, mask = text.encode(), os.urandom(4)
        if len(data) < 126:
            head = struct.pack("!BB", 0x81, 0x80 | len(data))
        else:
            head = struct.pack("!BBH", 0x81, 0x80 | 126, len(data))
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
        self.socket.sendall(head + mask + masked)

    def receive(self):
        """Returns the next message. Its parts are joined."""
        text = b""
        while True:
            first, size = self.input.read(2)
            if size == 126:
                (size,) = struct.unpack("!H", self.input.read(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", self.input.read(8))
            data = self.input.read(size)
            if first & 0x0F in (0, 1):
                text += data
                if first & 0x80:
                    return text.decode()


class Page:
    """A page in the browser."""

    def __init__(self, browser, url):
        request = urllib.request.Request(f"http://{browser}/json/new?{url}", method="PUT")
        with urllib.request.urlopen(request, timeout=STEP_SECONDS) as answer:
            self.socket = WebSocket(json.load(answer)["webSocketDebuggerUrl"])
        self.url = url
        self.number = 0

    def evaluate(self, script):
        self.number += 1
        parameters = {"expression": script, "returnByValue": True}
        self.socket.send(json.dumps({"id": self.number, "method": "Runtime.evaluate", "params": parameters}))
        while (answer := json.loads(self.socket.receive())).get("id") != self.number:
            pass
        return answer["result"]["result"].get("value")

    def shown(self):
        """Returns the texts of the page by their ids, and the lines of the log, newest first."""
        script = """JSON.stringify({
            ...Object.fromEntries([...document.querySelectorAll("dd")].map(dd => [dd.id, dd.textContent])),
            lines: [...document.querySelectorAll("#log li")].map(li => li.textContent),
        })"""
        return json.loads(self.evaluate(script))

    def expect(self, what, **values):
        """Waits until the page shows these values, and a line that contains `line`."""
        line = values.pop("line", "")
        shown = {}

        def is_shown():
            shown.update(self.shown())
            has_line = not line or any(line in one for one in shown["lines"])
            return has_line and all(shown.get(name) == value for name, value in values.items())

        try:
            wait_for(what, is_shown)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.url} shows {json.dumps(shown, indent=2)}") from None


@contextlib.contextmanager
def chromium():
    """Starts a browser, and returns the address of its debugging protocol."""
    named = os.environ.get("PGBELL_CHROMIUM")
    program = named or next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if program is None:
        raise RuntimeError(f"no browser: none of {', '.join(BROWSERS)} is in the PATH")
    with tempfile.TemporaryDirectory(prefix="pgbell-browser-", ignore_cleanup_errors=True) as profile:
        arguments = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        arguments += ["--remote-debugging-port=0", f"--user-data-dir={profile}"]
        # The sandbox of Chromium refuses root.
        arguments += ["--no-sandbox"] if os.getuid() == 0 else []
        log = pathlib.Path(profile, "output.txt")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [program, *arguments, "about:blank"], stdout=output, stderr=output, start_new_session=True
            )
        port = pathlib.Path(profile, "DevToolsActivePort")

        def address():
            if process.poll() is not None:
                raise RuntimeError(f"{program} has ended: {log.read_text(errors='replace')[-2000:]}")
            lines = port.read_text().splitlines() if port.exists() else []
            return f"127.0.0.1:{lines[0]}" if len(lines) == 2 else None

        try:
            yield wait_for("the start of the browser", address)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            # Children that are left are in the same process group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def look(database, database_url, browser):
    def all_show(what, **values):
        for page in pages:
            page.expect(what, **values)
        print(f"{what}: {values}", flush=True)

    with Program("live_page", database_url, "--port", "0") as site:
        address = site.url
        pages = [Page(browser, f"{address}?by={by}") for by in ("events", "socket")]
        all_show("both pages are connected", browser="connected", database="connected")
        for number in range(3):
            database.send(f"hello {number}")
        all_show("messages arrive", messages="3", losses="0", line="message: hello 2")

        sessions = "FROM pg_stat_activity WHERE application_name = 'live_page'"
        count = database.value(f"SELECT count(*) {sessions}")
        if count != "1":
            raise RuntimeError(f"{count} sessions for both pages, 1 was expected")
        database.value(f"SELECT pg_terminate_backend(pid) {sessions}")
        all_show("the lost session is shown", losses="1", line="1 session lost")
        all_show("the hub has reconnected", database="connected", browser="connected", reconnects="0")
        database.send("after the loss")
        all_show("messages arrive after the loss", messages="4", line="message: after the loss")

        site.stop()
        all_show("the last message of the server is shown", line="goodbye: the server ends")
    port = address.rstrip("/").rsplit(":", 1)[1]
    with Program("live_page", database_url, "--port", port) as site:
        line = "reload: the server cannot continue"
        all_show("both pages have reconnected", reconnects="1", browser="connected", losses="2", line=line)
        database.send("after the restart")
        all_show("messages arrive after the restart", messages="5", line="message: after the restart")
        site.stop()


def main():
    try:
        with Program("pgbell-testkit") as server, chromium() as browser:
            look(Database(server.url), server.url, browser)
            # It removes its files when its input ends.
            server.process.stdin.close()
            server.process.wait(STEP_SECONDS)
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        print(f"demos/browser.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
