// Waiting on Redis.
import assert from "node:assert/strict"
import { test } from "node:test"
import { testCrowd, testWaiting } from "../servers/waiting.mjs"
import { holder, opened, pending } from "../support/contenders.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { redis } from "../support/servers.mjs"

watchLeaks()

testCrowd(redis, async (server) => Object.values(await server.admin.commandCounts()).reduce((sum, count) => sum + count, 0), 3600)
testWaiting(redis)

test("a waiter sends nothing while it waits but its renewals", async (t) => {
    const server = await redis(t)
    const url = server.url("foo", { ttl: 3600 }) // no renewal comes into the count
    const child = await holder(t, url)
    const mutex = await opened(t, url)
    const waiting = mutex.lock()
    await pending(mutex, 1)
    const { evalsha, eval: whole = 0 } = await server.admin.commandCounts()
    await server.admin.command("BLPOP", "nothing", "0.5") // lets half a second pass at the server
    const after = await server.admin.commandCounts()
    assert.equal(after.evalsha + (after.eval ?? 0), evalsha + whole)
    await child.send({ do: "release" })
    await (await waiting).release()
})
