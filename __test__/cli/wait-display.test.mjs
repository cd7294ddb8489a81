import { test } from "node:test"
import assert from "node:assert/strict"
import { createRequire } from "node:module"

const { showWait } = createRequire(import.meta.url)("../../lib/cli/wait-display.js")

test("a log is told of a wait again and again, but rarely, and not after its end", async () => {
    const lines = []
    const mutex = { id: "x", query: async () => ({ held: [ { mode: "exclusive", label: "backup" } ] }) }
    const stop = showWait(mutex, { isTerminal: false, say: (text) => lines.push(text), clear () {} }, { first: 1, again: 2 })
    while (lines.length < 3)
        await new Promise((resolve) => setImmediate(resolve))
    stop()
    const { length } = lines
    // Longer than the time between two lines, by the same clock.
    await new Promise((resolve) => setTimeout(resolve, 20))
    assert.equal(lines.length, length)
    assert.ok(lines.every((text) => text === "waiting 0 s for lock \"x\", held by backup"), lines.join("\n"))
})
