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

testLegacy(etcd)
testLegacyCrowd(etcd, { rounds: 2 })

test("an old process gets in though new ones hand the lock to each other without end", async (t) => {
    const server = await etcd(t)
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
    }, { every: 1, what: "a turn of each new process" })
    await other.acquire("foo", { signal: AbortSignal.timeout(15_000) })
    await other.release("foo")
    for (const child of children)
        await child.send("stop")
    for (const child of children) {
        await child.message("history")
        await child.success()
    }
})
