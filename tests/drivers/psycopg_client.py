import psycopg
from psycopg.errors import FeatureNotSupported

from conversation import BOUND, COMMITTED, DOLLARS, PLAIN, STOCK, UNSUPPORTED, UNSUPPORTED_BOUND, expect

print(psycopg.__version__)
with psycopg.connect(autocommit=True) as connection:
    connection.execute("LISTEN orders")
    connection.execute(PLAIN)
    connection.execute(DOLLARS)
    connection.execute("SELECT pg_notify(%s, %s)", BOUND, prepare=True)
    with connection.transaction(force_rollback=True):
        connection.execute("NOTIFY orders, 'rolled back'")
    with connection.transaction():
        connection.execute(COMMITTED)
    expect([one.payload for one in connection.notifies(timeout=10, stop_after=4)])
    for sql, parameters in ((UNSUPPORTED, None), (UNSUPPORTED_BOUND, (7,))):
        try:
            connection.execute(sql, parameters)
            raise AssertionError("it was not refused")
        except FeatureNotSupported:
            pass
    for binary in (False, True):
        assert connection.execute(STOCK, (7,), binary=binary).fetchall() == [(7, "ink")]
    with connection.pipeline():
        one = connection.execute("SELECT 1")
        two = connection.execute("SELECT 2")
        assert (one.fetchone(), two.fetchone()) == ((1,), (2,))
