"""Forwards connections to a server and records the messages of its clients in a file, one line each:

    2> Q\\0\\0\\0\\x12LISTEN orders\\0

The number is that of the connection, counted from 1. `tests/testing/drivers.rs` reads the file.

    relay.py PORT FILE      prints the port on which it listens, and exits at the end of its standard input
"""

import asyncio
import sys

STARTUP_MAJOR = 3


def escaped(data):
    def one(byte):
        if byte == 0:
            return "\\0"
        return chr(byte) if 0x20 <= byte < 0x7F and byte != 0x5C else f"\\x{byte:02x}"

    return "".join(map(one, data))


class Messages:
    """Yields the complete messages of a client, beginning with its first packet."""

    def __init__(self):
        self.started = False
        self.data = b""

    def take(self, data):
        self.data += data
        while True:
            tag = 1 if self.started else 0
            if len(self.data) < tag + 4:
                return
            end = tag + int.from_bytes(self.data[tag : tag + 4], "big")
            if len(self.data) < end:
                return
            message, self.data = self.data[:end], self.data[end:]
            # Requests for encryption precede the startup packet.
            self.started = self.started or int.from_bytes(message[4:6], "big") == STARTUP_MAJOR
            yield message


async def copy(reader, writer, record):
    while data := await reader.read(65536):
        record(data)
        writer.write(data)
        await writer.drain()
    writer.close()


async def main(port, file):
    count = 0

    async def serve(reader, writer):
        nonlocal count
        count += 1
        number, messages = count, Messages()

        def record(data):
            for message in messages.take(data):
                file.write(f"{number}> {escaped(message)}\n")

        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(
            copy(reader, server_writer, record),
            copy(server_reader, writer, lambda _: None),
            return_exceptions=True,
        )

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    file.flush()


with open(sys.argv[2], "w", encoding="ascii") as file:
    asyncio.run(main(int(sys.argv[1]), file))
