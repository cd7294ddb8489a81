// Nobody else at the server has to wait for a mutex of ours, or for its waiters.
// time limit: 600 s
import { test } from "node:test"
import assert from "node:assert/strict"
import { watchLeaks } from "../support/leaks.mjs"
import { freshId, opened, rejection, watch } from "../conformance/world.mjs"
import { noLeftovers, pgbouncer, postgres, took, waitFor } from "./patient.mjs"

watchLeaks()

const waiting = async (server) => (await server.admin.locks()).filter((lock) => !lock.granted).length

/** Far more than anything takes that does not wait for a lock's end, in milliseconds. */
const SOON = 15_000

test("CREATE INDEX CONCURRENTLY inside the lock does not wait for those who wait for the lock, and they keep their order", async (t) => {
    const server = await postgres(t, { password: true, database: "postgres" }) // where admin.query() works
    await server.admin.query("CREATE TABLE cities (name text)")
    const id = freshId()
    const mutexes = []
    for (let each = 0; each < 6; each++)
        mutexes.push(await opened(t, server.url(id, { connect_timeout: 31 + each })))
    await mutexes[0].acquire()
    const order = []
    const turns = []
    for (const [ place, mutex ] of mutexes.slice(1).entries()) {
        turns.push(mutex.lock({ shared: place === 3 }).then(async (lock) => {
            order.push(place)
            await lock.release()
        }))
        await waitFor(async () => await waiting(server) === place + 1, { what: "the next to wait" })
    }
    for (let round = 0; round < 3; round++) {
        assert.ok(await took(server.admin.query("CREATE INDEX CONCURRENTLY ON cities (name)")) < SOON)
        await waitFor(async () => await waiting(server) === turns.length, { what: "all to wait again" })
        assert.deepEqual(order, [])
    }
    await mutexes[0].release()
    await Promise.all(turns)
    assert.deepEqual(order, [ 0, 1, 2, 3, 4 ])
    await Promise.all(mutexes.map((mutex) => mutex.close()))
    await noLeftovers(server)
})

test("a wait keeps no snapshot for longer than half a minute", async (t) => {
    const server = await postgres(t, { password: true })
    const id = freshId()
    const [ holder, standBy ] = [ await opened(t, server.url(id)), await opened(t, server.url(id, { connect_timeout: 31 })) ]
    await holder.acquire()
    const next = standBy.acquire()
    await waitFor(async () => await waiting(server) === 1, { what: "the stand-by to wait" })
    const horizon = "SELECT min(backend_xmin::text::bigint) FROM pg_stat_activity WHERE application_name LIKE 'ipc-mutex%'"
    const oldest = async () => (await server.admin.query(horizon))[0][0]
    const before = await oldest()
    await server.admin.query("SELECT txid_current()")
    await waitFor(async () => await oldest() !== before, { timeout: 90_000, what: "the horizon to move" })
    assert.equal(await waiting(server), 1)
    await holder.release()
    await next
    await standBy.release()
})

test("an idle mutex on template1 does not hinder CREATE DATABASE, and works again afterwards", async (t) => {
    const server = await postgres(t, { password: true, database: "template1" })
    const mutex = await opened(t, server.url(freshId()))
    for (const name of [ "one", "two" ]) {
        const lock = await mutex.lock()
        await lock.release()
        await server.admin.query(`CREATE DATABASE ${name}`)
    }
    await mutex.close()
    await noLeftovers(server)
})

test("connections are given back when nothing is held, with no event, and a hold keeps its own", async (t) => {
    const server = await postgres(t, { password: true, database: "template1" })
    const [ idle, holds ] = [ await opened(t, server.url(freshId())), await opened(t, server.url(freshId(), { connect_timeout: 31 })) ]
    for (const event of [ "disconnect", "reconnect", "lost" ])
        idle.on(event, () => assert.fail(event))
    await idle.acquire()
    await idle.release()
    await holds.acquire()
    await waitFor(async () => (await server.admin.sessions()).length === 1, { what: "the idle connections to go" })
    await idle.acquire()
    await idle.release()
    await holds.release()
    await idle.close() // the end of the server is an event
    await holds.close()
})

test("a role whose time limit for statements is tiny can open, wait and hold", async (t) => {
    const server = await postgres(t, { password: true })
    await server.admin.query(`ALTER ROLE ${server.user} SET statement_timeout = 1`)
    const id = freshId()
    const [ a, b ] = [ await opened(t, server.url(id)), await opened(t, server.url(id, { connect_timeout: 31 })) ]
    const lock = await a.lock()
    const next = b.lock()
    await waitFor(async () => await waiting(server) === 1, { what: "b to wait" })
    await lock.release()
    await (await next).release()
})

test("a pooler that has too few sessions is named as the cause", async (t) => {
    const server = await postgres(t)
    const one = await pgbouncer(t, server, { mode: "session", config: [ "default_pool_size = 1" ] })
    const refused = await rejection(opened(undefined, one.url(freshId(), { connect_timeout: 4 })))
    assert.equal(refused.code, "ERR_CONNECT")
    assert.match(refused.message, /pooler .* pool size/)
    const two = await pgbouncer(t, server, { mode: "session", config: [ "default_pool_size = 2" ] })
    const id = freshId()
    const [ direct, mutex ] = [ await opened(t, server.url(id)), await opened(t, two.url(id, { connect_timeout: 4 })) ]
    await mutex.acquire()
    await mutex.release()
    await direct.acquire()
    const error = await rejection(mutex.acquire({ timeout: 10_000 }))
    assert.equal(error.code, "ERR_TIMEOUT")
    assert.match(String(error.cause?.message), /pooler .* pool size/)
    const next = watch(mutex.acquire())
    await direct.release()
    await next.promise
    await mutex.release()
})
