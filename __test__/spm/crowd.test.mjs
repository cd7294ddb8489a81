// Very many holds and waiters at a time.
import { test } from "node:test"
import assert from "node:assert/strict"
import { freshId, opened } from "../conformance/world.mjs"
import { watchLeaks } from "../support/leaks.mjs"

watchLeaks()

test("close() aborts the signals of sixty thousand holds in a time in proportion to their number", async (t) => {
    const mutex = await opened(t, `spm:${freshId()}`)
    const signals = []
    for (let each = 0; each < 60_000; each++)
        signals.push((await mutex.lock({ shared: true })).signal)
    // Processor time: a machine that does other things too does not count.
    const before = process.cpuUsage()
    const closed = mutex.close()
    const { user } = process.cpuUsage(before)
    assert.ok(signals.every(({ aborted }) => aborted))
    // Half a second; where it grows with the square, 9 s.
    assert.ok(user < 4_000_000, `${user / 1e6} s`)
    await closed
})
