// A primary that has become a replica while old connections to it stay, as after a failover behind one endpoint, and is one again.
import assert from "node:assert/strict"
import { test } from "node:test"
import { opened, pending } from "../support/contenders.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { noLeftovers, redis } from "../support/servers.mjs"
import { lines, warm } from "./lane.mjs"
import { waitFor } from "../support/waiting.mjs"

watchLeaks()

const demote  = (server) => server.admin.command("REPLICAOF", "127.0.0.1", "1")
const promote = (server) => server.admin.command("REPLICAOF", "NO", "ONE")

/** A mutex in the express lane, and one whose calls go by the addon's thread. */
async function both (t, server) {
    const laned = await opened(t, server.url("laned"))
    await warm(laned)
    return [ laned, await opened(t, server.url("other", { max_hold: 600 })) ]
}

test("requests wait until there is a primary again, and the express lane goes on after that", async (t) => {
    const server = await redis(t)
    const mutexes = await both(t, server)
    const before = (await lines(server)).map(({ id }) => id)
    assert.equal(before.length, 1)
    await demote(server)
    const asked = mutexes.map((mutex) => mutex.acquire())
    await waitFor(async () => !(await lines(server)).some(({ id }) => before.includes(id)), { what: "the end of the lane's connection" })
    await promote(server)
    await Promise.all(asked)
    await Promise.all(mutexes.map((mutex) => mutex.release()))
    await warm(mutexes[0])
})

test("holds survive, and a release is made again until it is confirmed", async (t) => {
    const server = await redis(t)
    const mutexes = await both(t, server)
    const locks = []
    for (const mutex of mutexes)
        locks.push(await mutex.lock())
    await demote(server)
    const released = locks.map((lock) => lock.release())
    await promote(server)
    await Promise.all(released)
    for (const mutex of mutexes)
        await mutex.close()
    await noLeftovers(server, { timeout: 40_000 })
})

test("what is withdrawn while the server is a replica is cleared away when it is a primary again", async (t) => {
    const server = await redis(t)
    const near = await opened(t, server.url("foo"))
    const far = await opened(t, server.url("foo", { ttl: 600 })) // nothing of it runs out by itself
    await near.acquire()
    const end = new AbortController()
    const waits = far.acquire({ signal: end.signal })
    await pending(near, 1)
    await demote(server)
    end.abort(new Error("enough"))
    await assert.rejects(waits, /enough/)
    await promote(server)
    await near.release()
    await waitFor(async () => (await near.query()).held.length + (await near.query()).pending.length === 0, { what: "the lock to be free" })
})
