// The statements that every driver sends to the server, as in `conversation.py`.
import assert from "node:assert/strict"

export const PLAIN = "NOTIFY orders, 'plain'"
export const DOLLARS = "NOTIFY orders, $$it's$$"
export const BOUND = ["orders", "bound é"]
export const COMMITTED = "NOTIFY orders, 'committed'"
export const UNSUPPORTED = "CREATE TABLE stock (id int)"
export const UNSUPPORTED_BOUND = "SELECT id FROM missing WHERE id = $1"
export const STOCK = "SELECT id, name FROM stock WHERE id = $1"

// Collects payloads, and has a promise that resolves when all have arrived.
export function receiver() {
  const received = []
  let all
  const complete = new Promise((resolve) => { all = resolve })
  const push = (payload) => { if (received.push(payload) === 4) all() }
  const expect = async () => {
    await Promise.race([complete, new Promise((_, reject) => setTimeout(reject, 10_000, received).unref())])
    assert.deepEqual(received, ["plain", "it's", "bound é", "committed"])
  }
  return { push, expect }
}
