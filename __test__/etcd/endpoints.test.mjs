// Several endpoints of which some answer strangely, and answers that are strange for a moment.
import assert from "node:assert/strict"
import { createServer } from "node:net"
import { test } from "node:test"
import { opened, pending } from "../support/contenders.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { startProxy } from "../support/proxy.mjs"
import { etcd, noLeftovers } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"

watchLeaks()

const params = { ttl: 20, connect_timeout: 30 }
const page = (status) => `HTTP/1.1 ${status}\r\nContent-Type: text/html\r\nContent-Length: 5\r\nConnection: close\r\n\r\noops!`

/** What a strange endpoint does with a connection. */
const STRANGERS = {
    "hangs up": (socket) => socket.destroy(),
    "resets": (socket) => socket.resetAndDestroy(),
    "answers with a page": (socket) => socket.once("data", () => socket.end(page("200 OK"))),
    "is a balancer without servers": (socket) => socket.once("data", () => socket.end(page("502 Bad Gateway"))),
    "says what it is first": (socket) => socket.write("SSH-2.0-OpenSSH_9.2\r\n"),
    "hangs up after the first words": (socket) => socket.once("data", () => socket.end())
}

async function stranger (t, behave, port = 0) {
    const sockets = new Set()
    let see
    const seen = new Promise((resolve) => { see = resolve })
    const server = createServer((socket) => {
        see()
        sockets.add(socket)
        socket.on("error", () => {})
        behave(socket)
    })
    await new Promise((resolve, reject) => server.once("error", reject).listen(port, "127.0.0.1", resolve))
    const close = () => new Promise((resolve) => {
        sockets.forEach((socket) => socket.destroy())
        server.close(resolve)
    })
    t.after(close)
    return { port: server.address().port, seen, close }
}

test("an endpoint that is no etcd is passed over", async (t) => {
    const server = await etcd(t, { params })
    for (const [ name, behave ] of Object.entries(STRANGERS))
        await t.test(name, async (t) => {
            const { port } = await stranger(t, behave)
            const mutex = await opened(t, server.url("foo", {}, { port: [ port, server.port ] }))
            await (await mutex.lock()).release()
            await mutex.close()
        })
    await noLeftovers(server, { timeout: 60_000 })
})

test("an endpoint with a bad certificate is passed over", async (t) => {
    const good = await etcd(t, { tls: true, params })
    const bad = await etcd(t, { tls: "expired", params })
    const mutex = await opened(t, good.url("foo", {}, { port: [ bad.port, good.port ] }))
    await (await mutex.lock()).release()
    await mutex.close()
})

for (const name of [ "answers with a page", "is a balancer without servers", "says what it is first" ])
    test(`an endpoint that ${name} for a moment neither ends a wait nor keeps a lock that was given back`, async (t) => {
        const server = await etcd(t, { params })
        const proxy = await startProxy(server, t)
        const far = await opened(t, server.url("foo", {}, proxy.port))
        const near = await opened(t, server.url("foo"))
        const mislead = async () => {
            await proxy.refuse()
            const other = await stranger(t, STRANGERS[name], proxy.port)
            proxy.reset()
            return async () => {
                await other.seen
                await other.close()
                await proxy.pass()
            }
        }
        const lock = await far.lock()
        const waiting = near.lock()
        await pending(near, 1)
        let endOf = await mislead()
        const released = lock.release().catch((error) => error)
        await endOf()
        const next = await waiting
        await released
        const back = far.lock()
        await pending(near, 1)
        endOf = await mislead()
        await endOf()
        await pending(near, 1)
        await next.release()
        await (await back).release()
        await far.close()
        await near.close()
        await noLeftovers(server, { timeout: 60_000 })
    })

test("a server that falls silent is told as such, and never as somebody else's hold", async (t) => {
    const server = await etcd(t, { params })
    const proxy = await startProxy(server, t)
    const there = (id) => opened(t, server.url(id, { connect_timeout: 10 }, proxy.port))
    const [ waiter, free ] = [ await there("foo"), await there("bar") ]
    const near = await opened(t, server.url("foo"))
    const lock = await near.lock()
    const waiting = waiter.lock()
    await pending(near, 1)
    const told = []
    for (const event of [ "disconnect", "reconnect" ])
        waiter.on(event, () => told.push(event))
    proxy.blackhole()
    await assert.rejects(free.tryLock(), { code: "ERR_CONNECT" })
    await assert.rejects(free.query(), { code: "ERR_CONNECT" })
    await waitFor(() => told.includes("disconnect"), { timeout: 60_000, what: "the loss of the connection to be told" })
    assert.ok(!told.includes("reconnect"))
    await proxy.pass()
    await waitFor(() => told.includes("reconnect"), { timeout: 60_000, what: "its return to be told" })
    await lock.release()
    await (await waiting).release()
    for (const mutex of [ waiter, free, near ])
        await mutex.close()
    await noLeftovers(server, { timeout: 60_000 })
})

test("a server that became full still frees what is given back, with and without waiters", async (t) => {
    const server = await etcd(t, { config: [ "--quota-backend-bytes", "100000" ], params })
    const modes = { exclusive: false, shared: true }
    const locks = {}
    const holder = await opened(t, server.url("exclusive"))
    const reader = await opened(t, server.url("shared"))
    locks.exclusive = await holder.lock()
    locks.shared = await reader.lock({ shared: true })
    const waiters = await Promise.all(Object.keys(modes).map((id) => opened(t, server.url(id, { connect_timeout: 31 }))))
    const waits = waiters.map((waiter) => waiter.lock().then((lock) => lock.release(), (error) => error.code))
    await pending(holder, 1)
    await pending(reader, 1)
    let refused
    for (let at = 0; refused === undefined; at++) {
        assert.ok(at < 10_000, "100 MB fit into 100 kB")
        await server.admin.put(`fill${at}`, "x".repeat(10_000)).catch((error) => { refused = error })
    }
    for (const lock of Object.values(locks))
        await lock.release()
    for (const outcome of await Promise.all(waits))
        assert.equal(outcome, "ERR_SERVER")
    await waitFor(async () => (await server.admin.keys()).every(({ key }) => !/-(lock|queue|readers)/.test(key)), { what: "all to be cleared away", timeout: 60_000 })
    for (const mutex of [ holder, reader, ...waiters ])
        await mutex.close()
})
