// Old processes (1.1.2) and new ones on one Redis lock.
import assert from "node:assert/strict"
import { test } from "node:test"
import { testLegacy, testLegacyCrowd } from "../servers/legacy.mjs"
import { contender, freed, opened, pending } from "../support/contenders.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { legacy } from "../support/legacy.mjs"
import { redis } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"

watchLeaks()

const KEY = "foo/lock.IPC-Mutex-rpm"

testLegacy(redis, { seesSince: true })
testLegacyCrowd(redis, { rounds: 3 })

test("a new process follows an old one that died, when its key runs out", async (t) => {
    const server = await redis(t)
    const mutex = await opened(t, server.url("foo"))
    await server.admin.command("SET", KEY, Date.now(), "PX", 700, "NX")
    const lock = await mutex.lock()
    await lock.release()
})

test("only the first of many waiters polls while an old process holds", async (t) => {
    const server = await redis(t)
    const other = legacy(server)
    t.after(() => other.close())
    const url = server.url("foo", { ttl: 60 })
    const children = await Promise.all(Array.from({ length: 5 }, () => contender(t, url)))
    const mutex = await opened(t, url)
    await other.acquire("foo")
    await server.admin.command("PEXPIRE", KEY, 600_000) // an old hold lasts ten seconds, which the rest may take
    for (const [ index, child ] of children.entries()) {
        await child.send({ do: "lock" })
        await pending(mutex, index + 1)
    }
    const start = performance.now()
    const before = (await server.admin.commandCounts()).evalsha
    await waitFor(async () => (await server.admin.commandCounts()).evalsha >= before + 20)
    const rate = 20_000 / (performance.now() - start)
    assert.ok(rate < 40, `${rate} per second, of which one waiter's polling is 20 to 25`)
    await server.admin.command("DEL", KEY)
    for (const child of children) {
        await child.message("held")
        await freed(child)
    }
})
