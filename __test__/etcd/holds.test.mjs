// Holds on etcd: what keeps them, what ends them, and who is told.
import assert from "node:assert/strict"
import { setTimeout as sleep } from "node:timers/promises"
import { test } from "node:test"
import { holds, testRestart } from "../servers/holds.mjs"
import { holder, opened, pending } from "../support/contenders.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { etcd, noLeftovers } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"

watchLeaks()

/** Much longer than etcd's shortest: a machine that stands still for two thirds of it loses holds rightly. */
const TTL = 8000
const start = (t) => etcd(t, { params: { ttl: TTL / 1000, connect_timeout: 30 } })

test("holds on etcd", { concurrency: true }, async (t) => {
    const server = await start(t)
    await Promise.all(Object.entries(holds(TTL / 1000)).map(([ name, body ], index) => t.test(name, (t) => body(t, server.url(`common-${index}`)))))
    await noLeftovers(server, { timeout: 4 * TTL }) // what the killed ones left runs out by itself
})

// A restart also forgets the tokens of the users. However long it takes, the lease is longer.
testRestart((t) => etcd(t, { password: true, params: { ttl: 60, connect_timeout: 30 } }))

test("what was waited for longer than a lease lasts is held for longer, too", async (t) => {
    const server = await start(t)
    await Promise.all([ false, true ].map(async (shared) => {
        const id = shared ? "shared" : "exclusive"
        const [ before, after ] = await Promise.all([ 30, 31 ].map((seconds) => opened(t, server.url(id, { connect_timeout: seconds }))))
        const lock = await before.lock()
        const waiting = after.lock({ shared })
        await pending(before, 1)
        await sleep(1.3 * TTL)
        assert.equal(lock.signal.aborted, false)
        await lock.release()
        const next = await waiting
        await sleep(1.3 * TTL)
        assert.equal(next.signal.aborted, false)
        assert.equal((await before.query()).held.length, 1)
        await next.release()
        await before.close()
        await after.close()
    }))
    await noLeftovers(server, { timeout: 4 * TTL })
})

const MAIN = "IPC-Mutex-RPM-foo-lock"

test("a killed reader does not take the lock away from the others", async (t) => {
    const server = await start(t)
    const url = server.url("foo")
    const first = await holder(t, url, { shared: true }) // the one that brought the common lease
    const mutex = await opened(t, url)
    const reader = await mutex.lock({ shared: true })
    const waiting = mutex.lock()
    await pending(mutex, 1)
    await first.kill("SIGKILL")
    await waitFor(async () => (await mutex.query()).held.length === 1, { what: "the dead reader to be forgotten", timeout: 4 * TTL })
    assert.equal(reader.signal.aborted, false)
    assert.ok((await server.admin.keys()).some(({ key }) => key === MAIN))
    await reader.release()
    await (await waiting).release()
    await mutex.close()
    await noLeftovers(server, { timeout: 4 * TTL })
})

test("a holder is told when its key is deleted, and does not free what others took since", async (t) => {
    const server = await start(t)
    const mutex = await opened(t, server.url("foo"))
    for (const shared of [ false, true ]) {
        const lock = await mutex.lock({ shared })
        await server.admin.remove(MAIN)
        await server.admin.put(MAIN, "somebody else")
        await waitFor(() => lock.signal.aborted, { timeout: 4 * TTL, what: "the loss to be told" })
        assert.equal(lock.signal.reason.code, "ERR_LOCK_LOST")
        await assert.rejects(lock.release(), { code: "ERR_LOCK_LOST" })
        assert.ok((await server.admin.keys()).some(({ key, value }) => key === MAIN && value === "somebody else"))
        await server.admin.remove(MAIN)
    }
})

test("a waiter whose lease is revoked queues anew; a holder whose lease is revoked is told, and the waiter follows", async (t) => {
    const server = await start(t)
    const url = server.url("foo")
    const child = await holder(t, url)
    const mutex = await opened(t, url)
    const waiting = mutex.lock()
    await pending(mutex, 1)
    const leaseOf = async (part) => (await server.admin.keys()).find(({ key }) => key.includes(part))?.lease
    const first = await leaseOf("-queue/")
    await server.admin.revoke(first)
    await waitFor(async () => ![ undefined, first ].includes(await leaseOf("-queue/")), { what: "a new place in the queue", timeout: 4 * TTL })
    await server.admin.revoke(await leaseOf("-lock"))
    assert.equal((await child.message("aborted")).code, "ERR_LOCK_LOST")
    await (await waiting).release()
})
