// What a cut, silent or lying network does to locks on Redis.
import assert from "node:assert/strict"
import { test } from "node:test"
import { over, split, testNetwork } from "../servers/network.mjs"
import { opened, pending } from "../support/contenders.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { startProxy } from "../support/proxy.mjs"
import { redis } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"

watchLeaks()

testNetwork(redis, { ttl: 8 })

test("a grant that was published while the waiter was cut off reaches it", async (t) => {
    const { proxy, far, near } = await split(t, redis, { connect_timeout: 30 })
    const lock = await near.lock()
    const waiting = far.lock()
    await pending(near, 1)
    const { lost } = proxy.bytes
    proxy.dropReplies()
    await lock.release() // the server hands the lock to somebody who does not hear of it
    await waitFor(() => proxy.bytes.lost > lost, { what: "the grant to vanish" })
    await proxy.pass()
    const next = await waiting
    await next.release()
})

test("a waiter behind a dead network goes on waiting when it is back", async (t) => {
    const { server, proxy, far, near } = await split(t, redis, { ttl: 8, connect_timeout: 5 })
    const lock = await near.lock()
    const waiting = far.lock()
    await pending(near, 1)
    proxy.blackhole()
    await pending(near, 0) // its place ran out
    await proxy.pass()
    await pending(near, 1)
    await lock.release()
    await (await waiting).release()
    await over({ server, far, near })
})

test("a connection that was given up is ended at the server, so that nothing on it arrives late", async (t) => {
    const server = await redis(t)
    const proxy = await startProxy(server, t)
    const far = await opened(t, server.url("foo", { ttl: 30, connect_timeout: 3 }, proxy.port))
    const ids = async () => (await server.admin.clients()).map(({ id }) => id)
    const [ before ] = await ids()
    const lock = await far.lock()
    proxy.blackhole()
    await assert.rejects(far.tryLock({ shared: true }).then(() => far.query()), { code: "ERR_CONNECT" })
    await proxy.pass({ keep: true }) // the proxy keeps its end of the old connection open
    await waitFor(async () => (await far.query()).held.length === 1)
    const now = await ids()
    assert.ok(!now.includes(before), `${before} has gone, now there are ${now}`)
    await lock.release()
})

test("a connection that has the number of an earlier one of this process, before the server was restarted, is not ended for that", async (t) => {
    const server = await redis(t)
    // Two clients in the eyes of the server, in one process.
    const mutexes = [ await opened(t, server.url("foo", { ttl: 60 })), await opened(t, server.url("foo", { ttl: 90 })) ]
    let back = 0
    for (const mutex of mutexes)
        mutex.on("reconnect", () => back++)
    for (let round = 1; round <= 4; round++) {
        await server.kill()
        await server.start()
        await waitFor(() => back === 2 * round, { what: "both to be connected again" })
        for (const mutex of mutexes)
            await (await mutex.lock({ shared: true })).release()
        assert.equal((await server.admin.commandCounts())["client|kill"] ?? 0, 0)
    }
})
