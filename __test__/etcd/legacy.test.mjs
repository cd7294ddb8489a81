// Old processes (1.1.2) and new ones on one etcd lock.
import assert from "node:assert/strict"
import { test } from "node:test"
import { testLegacy, testLegacyCrowd } from "../servers/legacy.mjs"
import { contender, opened } from "../support/contenders.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { legacy } from "../support/legacy.mjs"
import { etcd } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"

watchLeaks()

/** A machine that stands still for seconds neither loses a hold nor gives an answer up. */
const start = (t) => etcd(t, { params: { ttl: 20, connect_timeout: 30 } })

testLegacy(start)
testLegacyCrowd(start, { rounds: 2 })

test("an old process gets in though new ones hand the lock to each other without end", async (t) => {
    const server = await start(t)
    const children = await Promise.all([ 1, 2, 3 ].map(() => contender(t, server.url("foo"), "loop")))
    const other = legacy(server)
    t.after(() => other.close())
    await other.acquire("foo")
    const mutex = await opened(t, server.url("foo"))
    assert.equal(await mutex.tryAcquire(), false)
    await other.release("foo")
    const seen = new Set()
    await waitFor(async () => {
        for (const { label } of (await mutex.query()).held)
            seen.add(label)
        return children.every(({ pid }) => seen.has(`contender ${pid}`))
    }, { every: 1, timeout: 60_000, what: "a turn of each new process" })
    // Room is made every second now, and was made every 15 s before: so it comes in with one of the next tries, however long
    // each of them takes here.
    let tries = 0
    await waitFor(() => {
        tries++
        return other.tryAcquire("foo")
    }, { every: 500, timeout: 120_000, what: "the old process to come in" })
    assert.ok(tries <= 30, `${tries} tries`)
    await other.release("foo")
    for (const child of children)
        await child.send("stop")
    for (const child of children) {
        await child.message("history", { timeout: 60_000 })
        await child.success()
    }
})
