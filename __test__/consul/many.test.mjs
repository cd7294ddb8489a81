// Many locks of one process at once on Consul.
import assert from "node:assert/strict"
import { test } from "node:test"
import { Mutex } from "../../index.mjs"
import { opened } from "../support/contenders.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { startProxy } from "../support/proxy.mjs"
import { consul, noLeftovers } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"

watchLeaks()

const TTL = 20
const params = { ttl: TTL, connect_timeout: 30 }

const openAll = (server, count, port) => Promise.all(Array.from({ length: count }, async (_, at) => {
    const mutex = new Mutex(server.url(`foo${at}`, {}, port))
    await mutex.open()
    return mutex
}))
const closeAll = (mutexes) => Promise.all(mutexes.map((mutex) => mutex.close()))

for (const shared of [ false, true ])
    test(`300 ${shared ? "shared" : "exclusive"} locks on a server 20 ms away are held as long as they are wanted`, async (t) => {
        const server = await consul(t, { params })
        const proxy = await startProxy(server, t)
        const mutexes = await openAll(server, 300, proxy.port)
        proxy.delay(10)
        const locks = await Promise.all(mutexes.map((mutex) => mutex.lock({ shared })))
        const start = performance.now()
        const lost = () => locks.filter(({ signal }) => signal.aborted).length
        await waitFor(() => lost() > 0 || performance.now() - start > 1500 * TTL, { timeout: 3000 * TTL })
        assert.equal(lost(), 0)
        await Promise.all(locks.map((lock) => lock.release()))
        await closeAll(mutexes)
        await noLeftovers(server, { timeout: 100_000 })
    })

test("1000 locks on a server 300 ms away are held as long as they are wanted, and are all given back in time", async (t) => {
    const server = await consul(t, { params })
    const proxy = await startProxy(server, t)
    const mutexes = await openAll(server, 1000, proxy.port)
    const locks = await Promise.all(mutexes.map((mutex) => mutex.lock()))
    proxy.delay(300)
    const start = performance.now()
    const lost = () => locks.filter(({ signal }) => signal.aborted).length
    await waitFor(() => lost() > 0 || performance.now() - start > 1500 * TTL, { timeout: 3000 * TTL })
    assert.equal(lost(), 0)
    await Promise.all(locks.map((lock) => lock.release()))
    assert.ok((await server.admin.keys()).every(({ key, session }) => !key.endsWith("/leader") || !session))
    await proxy.pass({ keep: true })
    await closeAll(mutexes)
    await noLeftovers(server, { timeout: 100_000 })
})

test("the end of a session is told for all its holds at once", async (t) => {
    const server = await consul(t, { params: { ttl: 60, connect_timeout: 30 } })
    const proxy = await startProxy(server, t)
    const mutexes = await openAll(server, 100, proxy.port)
    for (const shared of [ false, true ]) {
        const locks = await Promise.all(mutexes.map((mutex) => mutex.lock({ shared })))
        proxy.delay(100)
        const { session } = (await server.admin.keys()).find(({ key }) => key.includes(shared ? "/readers/" : "/leader"))
        await server.admin.destroy(session)
        await waitFor(() => locks.some(({ signal }) => signal.aborted), { timeout: 20_000, what: "the first to be told" })
        // One by one they would be told in 100 times 400 ms.
        await waitFor(() => locks.every(({ signal }) => signal.aborted), { timeout: 10_000, what: "all to be told" })
        await Promise.all(locks.map((lock) => assert.rejects(lock.release(), { code: "ERR_LOCK_LOST" })))
        await proxy.pass({ keep: true })
    }
    await closeAll(mutexes)
})

test("500 readers of one process come and go within the time limits of each", async (t) => {
    const server = await consul(t)
    const mutex = await opened(t, server.url("foo", { ttl: 60 }))
    const locks = await Promise.all(Array.from({ length: 500 }, () => mutex.lock({ shared: true })))
    assert.equal((await mutex.query()).held.length, 500)
    await Promise.all(locks.map((lock) => lock.release()))
    await (await mutex.lock()).release()
    await mutex.close()
    await noLeftovers(server, { timeout: 60_000 })
})
