import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import postgres from "postgres"
import { BOUND, COMMITTED, DOLLARS, PLAIN, UNSUPPORTED, receiver } from "./conversation.mjs"

const directory = fileURLToPath(import.meta.resolve("postgres")).replace(/postgres\/.*/, "postgres/")
console.log(JSON.parse(readFileSync(directory + "package.json")).version)
const sql = postgres({ max: 1 })
const { push, expect } = receiver()
await sql.listen("orders", push)
await sql.unsafe(PLAIN)
await sql.unsafe(DOLLARS)
await sql.notify(...BOUND)
await assert.rejects(sql.begin(async (sql) => {
  await sql`NOTIFY orders, 'rolled back'`
  throw new Error("rolled back")
}), /rolled back/)
await sql.begin((sql) => sql.unsafe(COMMITTED))
await expect()
await assert.rejects(sql.unsafe(UNSUPPORTED), { code: "0A000" })
await assert.rejects(sql`SELECT id FROM missing WHERE id = ${7}`, { code: "0A000" })
assert.deepEqual([...await sql`SELECT id, name FROM stock WHERE id = ${7}`], [{ id: 7, name: "ink" }])
assert.deepEqual([...await sql`SELECT 1 AS one`], [{ one: 1 }])
await sql.end()
