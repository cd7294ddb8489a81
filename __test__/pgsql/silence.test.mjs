// Signs of life do not wait behind work, and a client that went silent keeps nothing.
// time limit: 600 s
import { after, test } from "node:test"
import assert from "node:assert/strict"
import { watchLeaks } from "../support/leaks.mjs"
import { startProxy } from "../support/proxy.mjs"
import { freshId, opened, watch } from "../conformance/world.mjs"
import { noLeftovers, postgres, waitFor } from "./patient.mjs"

watchLeaks()
const alive = setInterval(() => {}, 1000)
after(() => clearInterval(alive))

/** A machine may stand still for some two thirds of it without a loss. In seconds. */
const LEASE = 8

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))

const locks = async (server, granted) => (await server.admin.locks()).filter((lock) => lock.granted === granted).length

test("a token whose commit waits for a synchronous standby costs no hold, and is given when the standby is there", async (t) => {
    const config = [ "synchronous_standby_names = 'away'", "wal_level = replica", "max_wal_senders = 1" ]
    const server = await postgres(t, { password: true, config })
    const [ held, fenced, free ] = [ await opened(t, server.url(freshId(), { ttl: LEASE })), await opened(t, server.url(freshId(), { ttl: LEASE })),
        await opened(t, server.url(freshId(), { ttl: LEASE })) ]
    held.on("lost", (error) => assert.fail(error))
    await held.acquire()
    const token = watch(fenced.lock())
    const withdrawn = new AbortController()
    const given = watch(free.lock({ signal: withdrawn.signal }).catch((error) => error.message))
    await waitFor(async () => await locks(server, true) === 3, { what: "both to hold, without a token yet" })
    withdrawn.abort(new Error("enough"))
    assert.equal(await given.promise, "enough")
    await waitFor(async () => await locks(server, true) === 2, { what: "the withdrawn one to be given back" })
    await free.acquire()
    await free.release()
    await sleep((LEASE + 1) * 1000) // the time itself is what is tested
    assert.equal(token.settled, false)
    await server.admin.query("ALTER SYSTEM SET synchronous_standby_names = ''")
    await server.admin.query("SELECT pg_reload_conf()")
    const lock = await token.promise
    await sleep((LEASE + 1) * 1000)
    assert.equal(lock.signal.aborted, false)
    await lock.release()
    await held.release()
    await Promise.all([ held, fenced, free ].map((mutex) => mutex.close()))
    await noLeftovers(server)
})

test("calls that keep the server busy for longer than the ttl cost no hold", async (t) => {
    const server = await postgres(t, { password: true })
    const proxy = await startProxy(server, t)
    const url = (id) => server.url(id, { ttl: LEASE }, proxy.port)
    const [ held, ...others ] = await Promise.all(Array.from({ length: 801 }, () => opened(t, url(freshId()))))
    held.on("lost", (error) => assert.fail(error))
    await held.acquire()
    proxy.delay(400)
    const begun = performance.now()
    await Promise.all(others.map((mutex) => mutex.acquire()))
    assert.ok(performance.now() - begun > LEASE * 1000, "the burst outlasts the lease")
    proxy.delay(0)
    await Promise.all([ held, ...others ].map((mutex) => mutex.release()))
    await Promise.all([ held, ...others ].map((mutex) => mutex.close()))
    await noLeftovers(server)
})

for (const [ phase, holds ] of [ [ "holds", true ], [ "waits", false ] ])
    test(`who ${phase} behind a proxy that swallows everything keeps the lock from nobody`, async (t) => {
        const server = await postgres(t, { password: true })
        const limits = await server.admin.query("SELECT FROM pg_settings WHERE name = 'idle_session_timeout'")
        if (limits.length === 0)
            return t.skip("from version 14 on")
        const proxy = await startProxy(server, t)
        const id = freshId()
        const direct = await opened(t, server.url(id))
        const silent = await opened(t, server.url(id, { ttl: 2, connect_timeout: 4 }, proxy.port))
        if (!holds)
            await direct.acquire()
        const asked = watch(silent.acquire())
        if (holds)
            await asked.promise
        else
            await waitFor(async () => await locks(server, false) === 1, { what: "the silent one to wait" })
        proxy.blackhole()
        if (!holds)
            await direct.release()
        // The proxy acknowledges everything, so that the server finds nothing wrong with the connection.
        await direct.acquire()
        await direct.release()
        await proxy.pass()
        if (holds)
            await silent.release().catch((error) => assert.equal(error.code, "ERR_LOCK_LOST"))
        else {
            await asked.promise
            await silent.release()
        }
        await silent.close()
        await direct.close()
        await noLeftovers(server)
    })
