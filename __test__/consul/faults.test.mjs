// Consul that refuses, answers strangely or has no connection left for a moment, and contenders that die while they wait.
import assert from "node:assert/strict"
import { connect } from "node:net"
import { setTimeout as sleep } from "node:timers/promises"
import { test } from "node:test"
import { contender, ended, freed, holder, opened, pending } from "../support/contenders.mjs"
import { exchange } from "../support/clients/http.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { consul, noLeftovers } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"
import { startFront } from "./front.mjs"

watchLeaks()

const params = { ttl: 20, connect_timeout: 30 }
/** What a balancer says instead of Consul, or in front of one that cannot serve. */
const PAGE = "<html><body>maintenance</body></html>"

test("whatever comes in place of an answer while a lock is given back, it is given back, and who waits goes on waiting", async (t) => {
    const server = await consul(t, { params })
    let broken
    const port = await startFront(t, server, (asked, reply) => {
        if (broken !== undefined && !asked.url.includes("index=")) {
            reply.status = broken
            reply.headers = { "content-type": "text/html" }
            reply.body = PAGE
        }
    })
    for (const status of [ 200, 404, 403, 500, 503 ])
        for (const shared of [ false, true ]) {
            const what = `${status}, ${shared ? "shared" : "exclusive"}`
            const mutex = await opened(t, server.url("foo", { connect_timeout: 1 }, port))
            const other = await opened(t, server.url("foo"))
            const lock = await mutex.lock({ shared })
            const next = other.lock()
            await pending(other, 1)
            broken = status
            const released = lock.release().catch((error) => error)
            await sleep(1500)
            broken = undefined
            const held = await next
            await released
            await (held).release()
            assert.deepEqual(await other.query(), { held: [], pending: [] }, what)
            const first = await other.lock()
            const waiting = mutex.lock({ shared }).catch((error) => error)
            await pending(other, 1)
            broken = status === 403 ? undefined : status // rights that are gone are told
            await first.release()
            await sleep(500)
            broken = undefined
            const got = await waiting
            assert.ok(!(got instanceof Error), `${what}: ${got}`)
            await got.release()
            await mutex.close()
            await other.close()
        }
    await noLeftovers(server, { timeout: 60_000 })
})

test("rights that are taken away while a lock is given back: it is free as soon as they are back", async (t) => {
    const server = await consul(t, { password: true, params })
    const policy = (Rules) => server.admin.call("PUT", `/v1/acl/policy/${id}`, { Name: "locks", Rules })
    const { ID: id } = (await server.admin.call("GET", "/v1/acl/policies")).find(({ Name }) => Name === "locks")
    const mutex = await opened(t, server.url("foo", { connect_timeout: 2 }))
    const lock = await mutex.lock()
    await policy("key_prefix \"other\" { policy = \"write\" }")
    await assert.rejects(lock.release(), { code: "ERR_AUTH" })
    await policy("key_prefix \"\" { policy = \"write\" } session_prefix \"\" { policy = \"write\" }")
    await waitFor(async () => (await server.admin.keys()).every(({ key, session }) => !key.endsWith("/leader") || !session), { what: "the lock to be free" })
    await (await mutex.lock()).release()
    await mutex.close()
})

test("who waits outlives a moment without rights, or without a token; a new request is told at once", async (t) => {
    const server = await consul(t, { password: true, params })
    const { admin } = server
    const { ID: policy } = (await admin.call("GET", "/v1/acl/policies")).find(({ Name }) => Name === "locks")
    const { AccessorID: token } = (await admin.call("GET", "/v1/acl/tokens")).find(({ Policies }) => Policies?.some(({ Name }) => Name === "locks"))
    const right = (Rules) => admin.call("PUT", `/v1/acl/policy/${policy}`, { Name: "locks", Rules })
    const changes = [
        { what: "policy", take: () => right("key_prefix \"other\" { policy = \"write\" }"),
            give: () => right("key_prefix \"\" { policy = \"write\" } session_prefix \"\" { policy = \"write\" }") },
        { what: "token", take: () => admin.call("DELETE", `/v1/acl/token/${token}`),
            give: () => admin.call("PUT", "/v1/acl/token", { AccessorID: token, SecretID: server.password, Policies: [ { Name: "locks" } ] }) }
    ]
    let refused = 0
    const port = await startFront(t, server, (asked, reply) => { refused += reply.status === 403 ? 1 : 0 })
    for (const { what, take, give } of changes)
        for (const shared of [ false, true ]) {
            const mutex = await opened(t, server.url("foo"))
            const other = await opened(t, server.url("bar"))
            const waiter = await contender(t, server.url("foo", {}, port))
            const lock = await mutex.lock()
            await waiter.send({ do: "lock", shared })
            await pending(mutex, 1)
            refused = 0
            await take()
            await waitFor(() => refused > 2, { what: "the waiter to be refused again and again" })
            await assert.rejects(other.lock(), { code: "ERR_AUTH" }, what)
            await give()
            await lock.release()
            await waiter.message("held")
            await freed(waiter)
            await ended(waiter)
            await mutex.close()
            await other.close()
        }
    await noLeftovers(server, { timeout: 60_000 })
})

test("a leader key that is edited by hand is given back all the same", async (t) => {
    const server = await consul(t, { params })
    for (const shared of [ false, true ]) {
        const mutex = await opened(t, server.url("foo"))
        const other = await opened(t, server.url("foo", { connect_timeout: 29 }))
        const lock = await mutex.lock({ shared })
        const next = other.lock()
        await pending(other, 1)
        await server.admin.call("PUT", "/v1/kv/IPC-Mutex-RPM/foo/leader", "edited")
        await lock.release().catch((error) => assert.equal(error.code, "ERR_LOCK_LOST"))
        await (await next).release()
        await mutex.close()
        await other.close()
    }
    await noLeftovers(server)
})

test("a waiter whose session ends has a place in line again at once, whatever the lock delay", async (t) => {
    const server = await consul(t, { params: { ...params, lockdelay: 60 } })
    const mutex = await opened(t, server.url("foo"))
    const lock = await mutex.lock()
    const waiter = await contender(t, server.url("foo"))
    await waiter.send({ do: "lock" })
    await pending(mutex, 1)
    const place = async () => (await server.admin.keys()).find(({ key, session }) => key.includes("/queue/") && session !== undefined)
    const { session, modifyIndex } = await place()
    await server.admin.destroy(session)
    await waitFor(async () => (await place())?.modifyIndex > modifyIndex, { timeout: 40_000, what: "another place in line" })
    await lock.release()
    await waiter.message("held")
    await freed(waiter)
    await ended(waiter)
    await mutex.close()
})

/** Connections that say nothing and take the room of others. */
async function hogs (t, server, count) {
    const sockets = Array.from({ length: count }, () => connect(server.port, "127.0.0.1").on("error", () => {}))
    t.after(() => sockets.forEach((socket) => socket.destroy()))
    await Promise.all(sockets.map((socket) => new Promise((resolve) => socket.once("connect", resolve).once("close", resolve))))
    return () => sockets.forEach((socket) => socket.destroy())
}

test("with no connection left, holds are renewed, waits go on, and all recovers", async (t) => {
    const server = await consul(t, { config: { limits: { http_max_conns_per_client: 6 } }, params })
    const mutex = await opened(t, server.url("foo"))
    const lock = await mutex.lock()
    const stop = await hogs(t, server, 6)
    const stranger = () => exchange({ host: "127.0.0.1", port: server.port }, "GET", "/v1/status/leader")
    await waitFor(() => stranger().then(({ status }) => status === 429, () => true), { what: "no room" })
    const start = performance.now()
    await waitFor(() => lock.signal.aborted || performance.now() - start > 1500 * params.ttl, { timeout: 60_000 })
    assert.equal(lock.signal.aborted, false)
    const late = await opened(t, server.url("bar", { connect_timeout: 1 })).catch((error) => error)
    assert.equal(late.code, "ERR_CONNECT")
    const waiting = mutex.lock()
    stop()
    await lock.release()
    await (await waiting).release()
    await (await (await opened(t, server.url("bar"))).lock()).release()
})

test("nobody else is shut out by locks that are held, waited for and given up again and again", async (t) => {
    const server = await consul(t, { config: { limits: { http_max_conns_per_client: 24 } }, params })
    const mutex = await opened(t, server.url("foo"))
    const taken = await opened(t, server.url("bar"))
    const kept = await taken.lock()
    let isOver = false
    const holding = (async () => {
        for (let round = 0; round < 25; round++) {
            const lock = await mutex.lock()
            await sleep(1100) // long enough to be watched
            await lock.release()
        }
        isOver = true
    })()
    const waiting = (async () => {
        while (!isOver)
            await assert.rejects(taken.lock({ timeout: 50 }), { code: "ERR_TIMEOUT" })
    })()
    while (!isOver) {
        const { status } = await exchange({ host: "127.0.0.1", port: server.port }, "GET", "/v1/status/leader")
        assert.equal(status, 200)
        await sleep(100)
    }
    await Promise.all([ holding, waiting ])
    await kept.release()
})

test("when holder and first waiter die together, the next one gets the lock", async (t) => {
    const ttl = 10
    const server = await consul(t, { params: { ttl, connect_timeout: 30 } })
    const first = await holder(t, server.url("foo"))
    const mutex = await opened(t, server.url("foo"))
    const second = await contender(t, server.url("foo"))
    await second.send({ do: "lock" })
    await pending(mutex, 1)
    const third = await contender(t, server.url("foo"))
    await third.send({ do: "lock" })
    await pending(mutex, 2)
    await Promise.all([ first.kill("SIGKILL"), second.kill("SIGKILL") ])
    await third.message("held", { timeout: 120_000 })
    await third.send({ do: "release" })
    await third.message("released")
    await ended(third)
})
