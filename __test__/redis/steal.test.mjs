// Locks on Redis that are taken from whoever has them.
import assert from "node:assert/strict"
import { test } from "node:test"
import { testSteal } from "../servers/steal.mjs"
import { startChild } from "../support/children.mjs"
import { opened } from "../support/contenders.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { legacy } from "../support/legacy.mjs"
import { redis } from "../support/servers.mjs"

watchLeaks()

testSteal(redis, { left: { ignore: /:token$/ } })

test("a hold that was taken by the express lane, in another process, ends like any other", async (t) => {
    const server = await redis(t)
    const url = server.url("foo", { ttl: 60, connect_timeout: 60 })
    const mutex = await opened(t, url)
    const child = await startChild(t, new URL("./laned.mjs", import.meta.url), [ url, "robbed" ])
    const { ways } = await child.message("ready", { timeout: 60_000 })
    assert.equal(typeof ways.at(-1), "string")
    const thief = await mutex.lock({ steal: true })
    assert.equal((await child.message("lost", { timeout: 60_000 })).code, "ERR_LOCK_LOST")
    assert.equal((await child.message("refused", { timeout: 60_000 })).code, "ERR_LOCK_LOST")
    assert.equal(await mutex.tryAcquire(), false)
    await thief.release()
    await child.success()
})

test("who may not subscribe hears with the next renewal", async (t) => {
    const server = await redis(t, { password: true })
    await server.admin.command("ACL", "SETUSER", "deaf", "on", ">its-secret", "~*", "&*", "+@all", "-subscribe")
    const holder = await opened(t, server.url("foo", { user: "deaf", connect_timeout: 60, ttl: 6 }, { password: "its-secret" }))
    const mutex = await opened(t, server.url("foo", { ttl: 60 }))
    const lock = await holder.lock()
    const alive = setInterval(() => {}, 1000)
    // Not the same process, as far as either knows: the parameters differ.
    const thief = await mutex.lock({ steal: true })
    await new Promise((resolve) => { lock.signal.addEventListener("abort", resolve, { once: true }) })
    clearInterval(alive)
    assert.equal(lock.signal.reason.code, "ERR_LOCK_LOST")
    assert.equal(thief.signal.aborted, false)
    await thief.release()
})

test("a process of 1.1.2 loses its key to a thief", async (t) => {
    const server = await redis(t)
    const mutex = await opened(t, server.url("foo", { ttl: 60 }))
    const other = legacy(server)
    t.after(() => other.close())
    await other.acquire("foo")
    const thief = await mutex.lock({ steal: true })
    assert.deepEqual((await mutex.query()).held.map(({ pid }) => pid), [ process.pid ])
    assert.equal(await other.tryAcquire("foo"), false)
    await thief.release()
    assert.equal(await other.tryAcquire("foo"), true)
    await other.release("foo")
})
