// A worker that says what no worker says.
import { test } from "node:test"
import assert from "node:assert/strict"
import { startChild } from "../support/children.mjs"
import { watchLeaks } from "../support/leaks.mjs"

watchLeaks()

test("a worker that sends nonsense harms nobody else, and nothing of it is left", async (t) => {
    const primary = await startChild(t, new URL("liar-primary.cjs", import.meta.url).pathname)
    const { ended, seen } = await primary.message("ended")
    assert.deepEqual(ended, [ { role: "work", code: 0, signal: null }, { role: "lie", code: 0, signal: null } ])
    assert.deepEqual(seen, { held: [], pending: [] })
    await primary.success()
    assert.equal(primary.stderr, "")
})
