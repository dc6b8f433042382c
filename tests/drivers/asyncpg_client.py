import asyncio

import asyncpg
from asyncpg.exceptions import FeatureNotSupportedError

from conversation import BOUND, COMMITTED, DOLLARS, PLAIN, STOCK, UNSUPPORTED, UNSUPPORTED_BOUND, expect


async def main():
    received = asyncio.Queue()
    pool = await asyncpg.create_pool(min_size=1, max_size=1)
    async with pool.acquire() as connection:
        await connection.add_listener("orders", lambda *facts: received.put_nowait(facts[3]))
        await connection.execute(PLAIN)
        await connection.execute(DOLLARS)
        await connection.execute("SELECT pg_notify($1, $2)", *BOUND)
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("NOTIFY orders, 'rolled back'")
        await transaction.rollback()
        async with connection.transaction():
            await connection.execute(COMMITTED)
        expect([await asyncio.wait_for(received.get(), 10) for _ in range(4)])
        for unsupported in (connection.execute(UNSUPPORTED), connection.fetch(UNSUPPORTED_BOUND % "$1", 7)):
            try:
                await unsupported
                raise AssertionError("it was not refused")
            except FeatureNotSupportedError:
                pass
        assert tuple(await connection.fetchrow(STOCK % "$1", 7)) == (7, "ink")
        assert await connection.fetchval("SELECT 1") == 1
    # The pool has reset the session.
    await pool.close()


print(asyncpg.__version__)
asyncio.run(main())
