// Many mutexes, many waiters: what that costs the server.
// time limit: 600 s
import { test } from "node:test"
import assert from "node:assert/strict"
import { readFile } from "node:fs/promises"
import { join } from "node:path"
import { watchLeaks } from "../support/leaks.mjs"
import { startProxy } from "../support/proxy.mjs"
import { Mutex, freshId, opened } from "../conformance/world.mjs"
import { noLeftovers, postgres, waitFor } from "./patient.mjs"

watchLeaks()

test("a thousand open mutexes, all of them held, use at most three connections", async (t) => {
    const server = await postgres(t, { password: true })
    const mutexes = Array.from({ length: 1000 }, (_, number) => new Mutex(server.url(`lock-${number}`)))
    await Promise.all(mutexes.map((mutex) => mutex.open()))
    await Promise.all(mutexes.map((mutex) => mutex.acquire()))
    assert.equal((await server.admin.locks()).length, 1000)
    const sessions = await server.admin.sessions()
    assert.ok(sessions.length <= 3, `${sessions.length} connections`)
    for (const { application } of sessions)
        assert.match(application, new RegExp(`^ipc-mutex \\S+ ${process.pid}$`))
    await Promise.all(mutexes.map((mutex) => mutex.release()))
    assert.deepEqual(await server.admin.locks(), [])
    await Promise.all(mutexes.map((mutex) => mutex.close()))
    await noLeftovers(server)
})

test("waiting costs a connection each, up to a limit; the rest waits in the process and gets its turn", async (t) => {
    const server = await postgres(t, { password: true })
    const ids = Array.from({ length: 24 }, () => freshId())
    const holders = await Promise.all(ids.map((id) => opened(t, server.url(id))))
    const waiters = await Promise.all(ids.map((id) => opened(t, server.url(id, { connect_timeout: 31 }))))
    await Promise.all(holders.map((mutex) => mutex.acquire()))
    const waits = waiters.map((mutex) => mutex.acquire())
    await waitFor(async () => (await server.admin.locks()).filter((lock) => !lock.granted).length === 8, { what: "eight waiters" })
    // One of each client for what is held, one of the waiting client to look after the eight.
    assert.ok((await server.admin.sessions()).length <= 11)
    for (const mutex of [ ...holders ].reverse())
        await mutex.release()
    await Promise.all(waits)
    await Promise.all(waiters.map((mutex) => mutex.release()))
    // Connections that nobody needs any more are closed after a while.
    await waitFor(async () => (await server.admin.sessions()).length === 0, { what: "idle connections to be closed" })
})

test("the limit of connections that wait is the user's to choose", async (t) => {
    const server = await postgres(t, { password: true })
    const ids = Array.from({ length: 12 }, () => freshId())
    const holders = await Promise.all(ids.map((id) => opened(t, server.url(id))))
    await Promise.all(holders.map((mutex) => mutex.acquire()))
    for (const limit of [ 1, 12 ]) {
        const waiters = await Promise.all(ids.map((id) => opened(t, server.url(id, { max_waiting: limit }))))
        const waits = waiters.map((mutex) => mutex.acquire().catch((error) => error.code))
        await waitFor(async () => (await server.admin.locks()).filter((lock) => !lock.granted).length === limit, { what: `${limit} to wait` })
        await Promise.all(waiters.map((mutex) => mutex.close()))
        assert.deepEqual(new Set(await Promise.all(waits)), new Set([ "ERR_CLOSED" ]))
    }
})

/** How many statements about locks the server executed for each of `number` clients that wait for one lock in turn. */
async function statements (t, server, number) {
    const id = freshId()
    const mutexes = []
    for (let each = 0; each < number; each++) // different options make different clients, as different processes are
        mutexes.push(await opened(t, server.url(id, { connect_timeout: 31 + each / 10 })))
    const log = async () => (await readFile(join(server.folder, "log"), "utf8")).split("\n").filter((line) => /execute .*pg_(try_)?advisory/.test(line)).length
    const before = await log()
    await mutexes[0].acquire()
    const turns = mutexes.slice(1).map(async (mutex) => {
        await mutex.acquire()
        await mutex.release()
    })
    await waitFor(async () => (await server.admin.locks()).length === number, { what: "all to wait" })
    await mutexes[0].release()
    await Promise.all(turns)
    const executed = await log() - before
    await Promise.all(mutexes.map((mutex) => mutex.close()))
    return executed / number
}

test("commands per hand-over do not grow with the number of waiters", async (t) => {
    const server = await postgres(t, { config: [ "log_statement = 'all'" ] })
    const few = await statements(t, server, 3)
    const many = await statements(t, server, 30)
    assert.ok(few >= 2, `${few} statements with 3`)
    assert.ok(many <= 3, `${many} statements with 30, ${few} with 3`)
    await noLeftovers(server)
})

test("a lock that goes to and fro is waited for without a try, which would be in vain", async (t) => {
    const server = await postgres(t, { config: [ "log_statement = 'all'" ] })
    const id = freshId()
    let [ one, other ] = [ await opened(t, server.url(id)), await opened(t, server.url(id, { connect_timeout: 31 })) ]
    const tries = async () => (await readFile(join(server.folder, "log"), "utf8")).split("\n").filter((line) => /execute .*pg_try_advisory/.test(line)).length
    const before = await tries()
    await one.acquire()
    for (let round = 0; round < 20; round++) {
        const next = other.acquire()
        await waitFor(async () => (await server.admin.locks()).length === 2, { what: "the other to wait" })
        await one.release()
        await next;
        [ one, other ] = [ other, one ]
    }
    await one.release()
    // The first acquire() of each, when nobody knows yet, and the first that finds the lock taken; another one for each time that the
    // machine stands still for so long that an idle connection is closed. Without what is known there would be one in each round.
    const tried = await tries() - before
    assert.ok(tried <= 6, `${tried} tries`)
    // And when it is contended no more, it soon goes by the main connection again.
    for (let round = 0; round < 40; round++) {
        await one.acquire()
        await one.release()
    }
    await one.acquire()
    await waitFor(async () => (await server.admin.sessions()).length <= 3, { what: "idle connections to be closed" })
    assert.equal((await server.admin.locks()).length, 1)
    await one.release()
})

test("acquire and release of the 1.x API consume no transaction id, a token does", async (t) => {
    const server = await postgres(t, { password: true })
    const mutex = await opened(t, server.url(freshId()))
    const next = async () => BigInt((await server.admin.query("SELECT txid_snapshot_xmax(txid_current_snapshot())"))[0][0])
    const before = await next()
    for (let round = 0; round < 10; round++) {
        await mutex.acquire()
        await mutex.release()
    }
    assert.equal(await next(), before)
    const lock = await mutex.lock()
    assert.equal(lock.token, before)
    await lock.release()
    assert.equal(await next(), before + 1n)
})

test("tokens go on growing after a power cut right behind the grant", async (t) => {
    const server = await postgres(t, { config: [ "wal_writer_delay = '10s'" ] })
    const mutex = await opened(t, server.url(freshId()))
    let last = 0n
    for (let round = 0; round < 3; round++) {
        for (let more = 0; more < 5; more++) {
            const lock = await mutex.lock()
            assert.ok(lock.token > last, `${lock.token} after ${last}`)
            last = lock.token
            await lock.release()
        }
        await server.restart({ kill: true })
    }
})

test("other processes see who holds and who waits", async (t) => {
    const server = await postgres(t, { password: true })
    const id = freshId()
    const [ a, b ] = [ await opened(t, server.url(id)), await opened(t, server.url(id, { connect_timeout: 31 })) ]
    const reader = await a.lock({ shared: true })
    const begun = Date.now()
    const writer = b.lock()
    await waitFor(async () => (await a.query()).pending.length === 1, { what: "the writer to wait" })
    const { held, pending } = await b.query()
    assert.deepEqual(held.map(({ mode, pid }) => ({ mode, pid })), [ { mode: "shared", pid: process.pid } ])
    const seen = (await a.query()).pending
    assert.deepEqual(seen.map(({ mode, pid }) => ({ mode, pid })), [ { mode: "exclusive", pid: process.pid } ])
    assert.equal(typeof seen[0].host, "string")
    // One clock, rounded to milliseconds and perhaps set a little meanwhile.
    assert.ok(seen[0].since > begun - 1000 && seen[0].since < Date.now() + 1000, `since ${seen[0].since}, asked at ${begun}`)
    assert.equal(pending.length, 1)
    await reader.release()
    await (await writer).release()
    await a.close()
    await b.close()
    await noLeftovers(server)
})

test("other processes see labels, of a lock that was free and of one that was waited for", async (t) => {
    const server = await postgres(t, { password: true })
    const id = freshId()
    const a = await opened(t, server.url(id), { label: "nightly report" })
    const bare = await opened(t, server.url(id))
    const b = await opened(t, server.url(id, { connect_timeout: 31 }), { label: "b" })
    const labels = (infos) => infos.map(({ label, thread }) => ({ label, thread }))
    const lock = await a.lock()
    const next = b.lock()
    await waitFor(async () => (await a.query()).pending.length === 1, { what: "b to wait" })
    assert.deepEqual(labels((await b.query()).held), [ { label: "nightly report", thread: 0 } ])
    assert.deepEqual(labels((await a.query()).pending), [ { label: "b", thread: 0 } ])
    await lock.release()
    await next
    assert.deepEqual(labels((await a.query()).held), [ { label: "b", thread: 0 } ])
    await (await next).release()
    // The label of the hold before does not stick to the next of the same process.
    await bare.acquire()
    await waitFor(async () => (await b.query()).held[0].label === undefined, { what: "the label to go" })
    await bare.release()
})

test("a label that other processes see is that of somebody who still holds", async (t) => {
    const server = await postgres(t, { password: true })
    const id = freshId()
    const [ one, two ] = [ await opened(t, server.url(id), { label: "one" }), await opened(t, server.url(id), { label: "two" }) ]
    const outside = await opened(t, server.url(id, { connect_timeout: 31 }))
    const locks = [ await one.lock({ shared: true }), await two.lock({ shared: true }) ]
    assert.deepEqual((await one.query()).held.map(({ label }) => label), [ "one", "two" ])
    assert.deepEqual((await outside.query()).held.map(({ label }) => label), [ "two" ])
    await locks[1].release()
    assert.deepEqual((await outside.query()).held.map(({ label }) => label), [ "one" ])
    await locks[0].release()
    assert.deepEqual(await outside.query(), { held: [], pending: [] })
})

test("readers of one process wait on one connection, and hold on it until the last has left", async (t) => {
    const server = await postgres(t, { password: true })
    const id = freshId()
    const [ writer, readers ] = [ await opened(t, server.url(id, { connect_timeout: 31 })), await opened(t, server.url(id)) ]
    await writer.acquire()
    const asked = Array.from({ length: 40 }, () => readers.lock({ shared: true }))
    await waitFor(async () => (await server.admin.locks()).filter((lock) => !lock.granted).length === 1, { what: "one session to wait" })
    // All tries go by one connection, in order, and so do all questions whether a reader may join: behind these two all have joined.
    const other = await opened(t, server.url(freshId()))
    await other.acquire()
    await other.release()
    assert.equal((await readers.query()).pending.length, 40)
    await writer.release()
    const locks = await Promise.all(asked)
    const tokens = new Set(locks.map((lock) => lock.token))
    assert.equal(tokens.size, 40)
    assert.deepEqual((await server.admin.locks()).map(({ mode, granted }) => ({ mode, granted })), [ { mode: "ShareLock", granted: true } ])
    for (const lock of locks) {
        assert.equal(await writer.tryAcquire(), false)
        await lock.release()
    }
    assert.equal(await writer.tryAcquire(), true)
    await writer.release()
    assert.deepEqual(await server.admin.locks(), [])
})

test("a reader that joins the readers who wait while they give up waits on", async (t) => {
    const server = await postgres(t, { password: true })
    const proxy = await startProxy(server, t)
    const id = freshId()
    const writer = await opened(t, server.url(id))
    const readers = await opened(t, server.url(id, {}, proxy.port))
    await readers.tryLock({ shared: true }).then((lock) => lock.release())
    const hold = await writer.lock()
    proxy.delay(60)
    const waits = () => waitFor(async () => (await server.admin.locks()).some((lock) => !lock.granted), { what: "a reader to wait at the server" })
    for (let round = 0; round < 2; round++) {
        const giving = new AbortController(), last = new AbortController()
        const first = readers.lock({ shared: true, signal: giving.signal })
        first.catch(() => {})
        await waits()
        // What the second one asks the server before it joins is on its way when the first one goes.
        const second = readers.lock({ shared: true, signal: last.signal })
        giving.abort()
        await assert.rejects(first, { name: "AbortError" })
        const early = await Promise.race([ second.catch((error) => error), waits() ])
        assert.ok(!(early instanceof Error), String(early))
        last.abort()
        await assert.rejects(second, { name: "AbortError" })
    }
    await hold.release()
})
