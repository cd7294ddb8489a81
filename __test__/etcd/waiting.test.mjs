// Waiting on etcd.
import assert from "node:assert/strict"
import { test } from "node:test"
import { testCrowd, testWaiting } from "../servers/waiting.mjs"
import { exchange } from "../support/clients/http.mjs"
import { contender, ended, freed, opened, pending } from "../support/contenders.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { etcd, noLeftovers } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"

watchLeaks()

/** All messages of clients, those on streams of watches and of keep-alives included. */
async function messages (server) {
    const { body } = await exchange({ host: server.host, port: server.port }, "GET", "/metrics")
    const counts = [ ...body.matchAll(/^grpc_server_msg_received_total\{.*\} (\S+)$/gm) ].map(([ , count ]) => Number(count))
    assert.ok(counts.length > 0)
    return counts.reduce((sum, count) => sum + count)
}

/** So long that a machine which stands still for seconds neither loses a hold nor gives an answer up. */
const params = { ttl: 20, connect_timeout: 30 }

testCrowd((t) => etcd(t, { params }), messages, 600)
testWaiting((t) => etcd(t, { params }))

test("a killed waiter is skipped", async (t) => {
    const server = await etcd(t, { params })
    const url = server.url("foo", { ttl: 8 })
    const mutex = await opened(t, url)
    const lock = await mutex.lock()
    const dead = await contender(t, url)
    await dead.send({ do: "lock" })
    await pending(mutex, 1)
    const alive = await contender(t, url)
    await alive.send({ do: "lock" })
    await pending(mutex, 2)
    await dead.kill("SIGKILL")
    await waitFor(async () => (await mutex.query()).pending.length === 1, { what: "the dead one's place to go with its lease", timeout: 30_000 })
    assert.equal((await mutex.query()).pending[0].pid, alive.pid)
    assert.equal(alive.has("held"), false)
    await lock.release()
    const { token } = await alive.message("held")
    assert.ok(token > lock.token)
    await freed(alive)
    await ended(alive)
    await mutex.close()
    await noLeftovers(server, { timeout: 30_000 }) // a lease whose end came too late for close() runs out by itself
})

test("a lock that was handed to a waiter killed a moment ago comes to the next one with the end of its lease", async (t) => {
    const server = await etcd(t, { params })
    const url = server.url("foo", { ttl: 5 })
    const mutex = await opened(t, url)
    const lock = await mutex.lock()
    const dead = await contender(t, url)
    await dead.send({ do: "lock" })
    await pending(mutex, 1)
    const alive = await contender(t, url)
    await alive.send({ do: "lock" })
    await pending(mutex, 2)
    await dead.kill("SIGKILL")
    const killed = performance.now()
    await lock.release()
    const { token } = await alive.message("held", { timeout: 60_000 })
    assert.ok(performance.now() - killed < 20_000, "told of it, and not by the look that a waiter takes every 30 s")
    assert.ok(token > lock.token)
    await freed(alive)
    await ended(alive)
    await mutex.close()
    await noLeftovers(server, { timeout: 30_000 }) // a lease whose end came too late for close() runs out by itself
})
