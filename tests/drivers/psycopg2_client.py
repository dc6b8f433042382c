import select

import psycopg2
from psycopg2.errors import FeatureNotSupported

from conversation import BOUND, COMMITTED, DOLLARS, PLAIN, STOCK, UNSUPPORTED, UNSUPPORTED_BOUND, expect

print(psycopg2.__version__.split()[0])
connection = psycopg2.connect("")
connection.autocommit = True
cursor = connection.cursor()
cursor.execute("LISTEN orders")
cursor.execute(PLAIN)
cursor.execute(DOLLARS)
cursor.execute("SELECT pg_notify(%s, %s)", BOUND)
connection.autocommit = False
cursor.execute("NOTIFY orders, 'rolled back'")
connection.rollback()
cursor.execute(COMMITTED)
connection.commit()
connection.autocommit = True
while len(connection.notifies) < 4 and select.select([connection], [], [], 10)[0]:
    connection.poll()
expect([one.payload for one in connection.notifies])
for sql, parameters in ((UNSUPPORTED, None), (UNSUPPORTED_BOUND, (7,))):
    try:
        cursor.execute(sql, parameters)
        raise AssertionError("it was not refused")
    except FeatureNotSupported:
        pass
# This driver writes values into the text of the query, so the server has no answer for the text.
cursor.execute("SELECT 1")
assert cursor.fetchall() == [(1,)]
connection.close()
