import importlib.metadata
import os

import pg8000.native

from conversation import COMMITTED, DOLLARS, PLAIN, STOCK, UNSUPPORTED, UNSUPPORTED_BOUND, expect

print(importlib.metadata.version("pg8000"))
connection = pg8000.native.Connection(
    os.environ["PGUSER"],
    host=os.environ["PGHOST"],
    port=int(os.environ["PGPORT"]),
    database=os.environ["PGDATABASE"],
    password=os.environ.get("PGPASSWORD"),
    timeout=10,
)
connection.run("LISTEN orders")
connection.run(PLAIN)
connection.run(DOLLARS)
# This driver decodes payloads as ASCII.
connection.run("SELECT pg_notify(:channel, :payload)", channel="orders", payload="bound")
for end, sql in (("ROLLBACK", "NOTIFY orders, 'rolled back'"), ("COMMIT", COMMITTED)):
    connection.run("START TRANSACTION")
    connection.run(sql)
    connection.run(end)
expect([payload for _, _, payload in connection.notifications], "bound")
for sql, parameters in ((UNSUPPORTED, {}), (UNSUPPORTED_BOUND % ":id", {"id": 7})):
    try:
        connection.run(sql, **parameters)
        raise AssertionError("it was not refused")
    except pg8000.native.DatabaseError as error:
        assert error.args[0]["C"] == "0A000", error
assert connection.run(STOCK % ":id", id=7) == [[7, "ink"]]
prepared = connection.prepare("SELECT 1")
assert prepared.run() == [[1]]
prepared.close()
connection.close()
