// Waiting on Redis.
import assert from "node:assert/strict"
import { test } from "node:test"
import { testCrowd, testWaiting } from "../servers/waiting.mjs"
import { holder, opened, pending } from "../support/contenders.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { redis } from "../support/servers.mjs"

watchLeaks()

testCrowd(redis, async (server) => Object.values(await server.admin.commandCounts()).reduce((sum, count) => sum + count, 0), 30)
testWaiting(redis)

test("a waiter sends nothing while it waits but its renewals", async (t) => {
    const server = await redis(t)
    const url = server.url("foo", { ttl: 30 })
    const child = await holder(t, url)
    const mutex = await opened(t, url)
    const waiting = mutex.lock()
    await pending(mutex, 1)
    const { evalsha, eval: whole = 0 } = await server.admin.commandCounts()
    // something to wait for that takes a while: 20 commands of our own, one after the other
    for (let n = 0; n < 20; n++)
        await server.admin.command("DEBUG", "SLEEP", "0.02").catch(() => server.admin.command("PING"))
    const after = await server.admin.commandCounts()
    assert.equal(after.evalsha + (after.eval ?? 0), evalsha + whole)
    await child.send({ do: "release" })
    await (await waiting).release()
})
