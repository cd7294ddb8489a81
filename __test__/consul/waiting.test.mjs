// Waiting on Consul.
import assert from "node:assert/strict"
import { test } from "node:test"
import { testWaiting } from "../servers/waiting.mjs"
import { contender, freed, opened, pending } from "../support/contenders.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { startProxy } from "../support/proxy.mjs"
import { consul, noLeftovers } from "../support/servers.mjs"

watchLeaks()

/** So long that a machine which stands still for seconds neither loses a hold nor gives an answer up. */
const params = { ttl: 14, connect_timeout: 30 }

testWaiting((t) => consul(t, { params }), { timeouts: 20 })

test("30 waiting processes get the lock in order, and a waiter far back hears nothing of the hand-overs before it", async (t) => {
    const server = await consul(t, { params })
    const url = server.url("foo")
    const proxy = await startProxy(server, t)
    const mutex = await opened(t, url)
    const lock = await mutex.lock()
    const children = await Promise.all(Array.from({ length: 30 }, () => contender(t, url)))
    for (const [ index, child ] of children.entries()) {
        await child.send({ do: "lock" })
        await pending(mutex, index + 1)
    }
    const last = await opened(t, server.url("foo", { readwait: 600, ttl: 40 }, proxy.port))
    const waiting = last.lock()
    await pending(mutex, 31)
    await lock.release()
    let token = lock.token
    let before
    for (const [ index, child ] of children.entries()) {
        const held = await child.message("held", { timeout: 60_000 })
        assert.ok(held.token > token)
        token = held.token
        if (index === 0)
            before = proxy.bytes.requests
        if (index === 20)
            // perhaps a renewal, but no look at the queue for each of 20 hand-overs
            assert.ok(proxy.bytes.requests - before < 20 * 200, `${proxy.bytes.requests - before} bytes`)
        await freed(child)
    }
    const own = await waiting
    assert.ok(own.token > token)
    await own.release()
    for (const child of children)
        await child.send({ do: "close" })
    for (const child of children)
        await child.success()
    await last.close()
    await mutex.close()
    await noLeftovers(server, { timeout: 100_000 }) // a session whose end came too late for close() runs out by itself
})
