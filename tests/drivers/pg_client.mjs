import assert from "node:assert/strict"
import { createRequire } from "node:module"
import pg from "pg"
import { BOUND, COMMITTED, DOLLARS, PLAIN, STOCK, UNSUPPORTED, UNSUPPORTED_BOUND, receiver } from "./conversation.mjs"

console.log(createRequire(import.meta.url)("pg/package.json").version)
const pool = new pg.Pool({ max: 1 })
const client = await pool.connect()
const { push, expect } = receiver()
client.on("notification", ({ payload }) => push(payload))
await client.query("LISTEN orders")
await client.query(PLAIN)
await client.query(DOLLARS)
await client.query("SELECT pg_notify($1, $2)", BOUND)
for (const [sql, end] of [["NOTIFY orders, 'rolled back'", "ROLLBACK"], [COMMITTED, "COMMIT"]]) {
  await client.query("BEGIN")
  await client.query(sql)
  await client.query(end)
}
await expect()
await assert.rejects(client.query(UNSUPPORTED), { code: "0A000" })
await assert.rejects(client.query(UNSUPPORTED_BOUND, [7]), { code: "0A000" })
for (const more of [{}, { name: "stock" }, { name: "stock" }]) {
  const { rows } = await client.query({ text: STOCK, values: [7], ...more })
  assert.deepEqual(rows, [{ id: 7, name: "ink" }])
}
const { rows } = await client.query({ text: "SELECT 1 AS one", binary: true })
assert.deepEqual(rows, [{ one: 1 }])
client.release()
await pool.end()
