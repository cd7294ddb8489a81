// What becomes of holds and waits when processes, connections and the server fail.
// time limit: 600 s
import { after, test } from "node:test"
import assert from "node:assert/strict"
import { once } from "node:events"
import { watchLeaks } from "../support/leaks.mjs"
import { startProxy } from "../support/proxy.mjs"
import { freshId, opened, rejection, watch } from "../conformance/world.mjs"
import { actor } from "./actors.mjs"
import { noLeftovers, postgres, took, waitFor } from "./patient.mjs"

watchLeaks()
// A hold does not keep its process alive, not even one whose loss is awaited.
const alive = setInterval(() => {}, 1000)
after(() => clearInterval(alive))

/** For a server that is killed: its tables, with the roles in them, are to be there afterwards. */
const durable = [ "synchronous_commit = on" ]

/** Resolves when so many wait at the server. */
async function waiters (server, number) {
    await waitFor(async () => (await server.admin.locks()).filter((lock) => !lock.granted).length === number, { what: `${number} waiters` })
}

/** The ttl of holds that must end by something else than their lease, and how long that may take, in milliseconds. */
const ENDLESS = { ttl: 3600 }
const AT_ONCE = 10_000

/** A machine may stand still for some two thirds of it without a loss. In seconds. */
const LEASE = 8

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))

test("the lock of a killed holder goes to the next at once, not after its ttl, and a killed waiter is skipped", async (t) => {
    const server = await postgres(t, { password: true })
    const url = server.url(freshId(), ENDLESS)
    const [ holder, waiter ] = [ await actor(t, url), await actor(t, url) ]
    const { token } = await holder.tell("lock")
    await waiter.begin("lock")
    await waiters(server, 1)
    const mutex = await opened(t, url)
    const next = mutex.lock()
    await waiters(server, 2)
    await waiter.child.kill("SIGKILL")
    const [ [ version ] ] = await server.admin.query("SHOW server_version_num")
    // Before 14 the server finds out only when it would get the lock.
    await waiters(server, Number(version) < 140_000 ? 2 : 1)
    holder.child.kill("SIGKILL")
    assert.ok(await took(next) < AT_ONCE)
    const lock = await next
    assert.ok(lock.token > token)
    await lock.release()
    await mutex.close()
    await noLeftovers(server)
})

test("a terminated backend is a lost hold, for both kinds of sessions, and the mutex goes on working", async (t) => {
    const server = await postgres(t, { password: true })
    const [ url, params ] = [ freshId(), { connect_timeout: 31 } ]
    const [ a, b ] = [ await opened(t, server.url(url)), await opened(t, server.url(url, params)) ]
    for (const waited of [ false, true ]) {
        const first = waited ? await b.lock() : undefined
        const asked = a.lock()
        if (waited) {
            await waiters(server, 1)
            await first.release()
        }
        const lock = await asked
        const lost = once(a, "lost")
        const [ { pid } ] = (await server.admin.locks()).filter((each) => each.granted)
        await server.admin.terminate([ pid ])
        await lost
        assert.equal(lock.signal.aborted, true)
        assert.equal(lock.signal.reason.code, "ERR_LOCK_LOST")
        assert.match(String(lock.signal.reason.cause?.message ?? lock.signal.reason.cause), /terminating connection/)
        assert.equal((await rejection(lock.release())).code, "ERR_LOCK_LOST")
        const again = await a.lock()
        assert.ok(again.token > lock.token)
        await again.release()
    }
    await a.close()
    await b.close()
    await noLeftovers(server)
})

test("a restart of the server is a loss for who holds and none for who waits", async (t) => {
    const server = await postgres(t, { password: true, config: durable })
    const id = freshId()
    const [ a, b ] = [ await opened(t, server.url(id)), await opened(t, server.url(id, { connect_timeout: 31 })) ]
    for (const kill of [ false, true ]) {
        const lock = await a.lock()
        const next = b.lock()
        await waiters(server, 1)
        const [ lost, back ] = [ once(a, "lost"), once(b, "reconnect") ]
        await server.restart({ kill })
        await lost
        const granted = await next
        await back
        assert.ok(granted.token > lock.token)
        assert.equal((await rejection(lock.release())).code, "ERR_LOCK_LOST")
        assert.equal(await a.tryLock(), null)
        await granted.release()
        const again = await a.lock()
        assert.ok(again.token > granted.token)
        await again.release()
    }
    await a.close()
    await b.close()
    await noLeftovers(server)
})

test("a wait outlives a server that is away for long, and a timeout ends it meanwhile", async (t) => {
    const server = await postgres(t, { password: true, config: durable })
    const [ mutex, other ] = [ await opened(t, server.url(freshId())), await opened(t, server.url(freshId())) ]
    await server.kill()
    const patient = watch(mutex.lock())
    assert.equal((await rejection(mutex.lock({ timeout: 1500 }))).code, "ERR_TIMEOUT")
    assert.equal((await rejection(other.tryLock())).code, "ERR_CONNECT")
    assert.equal(patient.settled, false)
    await server.start()
    const lock = await patient.promise
    await lock.release()
    await mutex.close()
    await other.close()
    await noLeftovers(server)
})

test("reset connections are lost holds at once, and waits go on", async (t) => {
    const server = await postgres(t, { password: true })
    const proxy = await startProxy(server, t)
    const id = freshId()
    const direct = await opened(t, server.url(id))
    const [ held, waits ] = [ await opened(t, server.url(freshId(), ENDLESS, proxy.port)), await opened(t, server.url(id, ENDLESS, proxy.port)) ]
    const outer = await direct.lock()
    const lock = await held.lock()
    const next = watch(waits.lock())
    await waiters(server, 1)
    const lost = once(lock.signal, "abort")
    proxy.reset()
    assert.ok(await took(lost) < AT_ONCE)
    // The wait is at the server again, once: the former session's wait is gone.
    await waitFor(async () => (await waits.query()).pending.length === 1, { what: "the wait to be back" })
    await waiters(server, 1)
    assert.equal(next.settled, false)
    await outer.release()
    await (await next.promise).release()
    for (const mutex of [ direct, held, waits ])
        await mutex.close()
    await noLeftovers(server)
})

test("in a silent partition the holder gives up before the server hands the lock on", async (t) => {
    const server = await postgres(t, { password: true })
    const proxy = await startProxy(server, t)
    const id = freshId()
    // While the network is silent, so is an attempt to connect, for as long as this allows.
    const cut = await opened(t, server.url(id, { ttl: LEASE, connect_timeout: 6 }, proxy.port))
    const other = await opened(t, server.url(id, { ttl: LEASE }))
    const lock = await cut.lock()
    const next = watch(other.lock())
    await waiters(server, 1)
    const lost = once(lock.signal, "abort")
    proxy.blackhole()
    const silence = await took(lost)
    assert.ok(silence < LEASE * 1000 + 2000, `lost after ${silence} ms`)
    assert.equal(next.settled, false, "the server had not yet given the lock to the other")
    assert.equal(lock.signal.reason.code, "ERR_LOCK_LOST")
    // When the network is back, the former session is ended, however long the server itself would have waited.
    await proxy.pass({ keep: true })
    await (await next.promise).release()
    await (await cut.lock()).release()
    await cut.close()
    await other.close()
    await noLeftovers(server)
})

test("a wait is withdrawn although the network is dead, and the server has no trace once it is back", async (t) => {
    const server = await postgres(t, { password: true })
    const proxy = await startProxy(server, t)
    const id = freshId()
    const [ holder, waits ] = [ await opened(t, server.url(id)), await opened(t, server.url(id, { ttl: 2, connect_timeout: 6 }, proxy.port)) ]
    const lock = await holder.lock()
    const abort = new AbortController()
    const waiting = rejection(waits.lock({ signal: abort.signal }))
    await waiters(server, 1)
    proxy.blackhole()
    abort.abort(new Error("enough"))
    assert.ok(await took(waiting) < 5000)
    assert.equal((await waiting).message, "enough")
    await proxy.pass({ keep: true })
    await waitFor(async () => await waits.tryLock() === null, { what: "the network to be back" })
    await waiters(server, 0)
    await lock.release()
    await (await waits.lock()).release()
    await holder.close()
    await waits.close()
    await noLeftovers(server)
})

test("a holder that was stopped beyond its lease learns of the loss before it can believe otherwise", async (t) => {
    const server = await postgres(t, { password: true })
    const url = server.url(freshId(), { ttl: LEASE })
    const holder = await actor(t, url)
    await holder.tell("lock")
    await holder.child.pause()
    const over = sleep(LEASE * 1000) // the time itself is what is tested
    const [ { pid } ] = (await server.admin.locks()).filter((lock) => lock.granted)
    await server.admin.terminate([ pid ])
    const mutex = await opened(t, url)
    const lock = await mutex.lock()
    await over
    const asked = await holder.begin("aborted")
    holder.child.resume()
    assert.equal((await asked()).aborted, true)
    await holder.child.message("lost")
    assert.equal((await rejection(holder.tell("release"))).code, "ERR_LOCK_LOST")
    await lock.release()
})

for (const shared of [ false, true ])
    test(`a ${shared ? "shared" : "exclusive"} lock that was waited for longer than its ttl is held for longer than its ttl`, async (t) => {
        const server = await postgres(t, { password: true })
        const id = freshId()
        const [ holder, standBy ] = [ await opened(t, server.url(id)), await opened(t, server.url(id, { ttl: LEASE })) ]
        const held = await holder.lock()
        const next = watch(standBy.lock({ shared }))
        await waiters(server, 1)
        await sleep((LEASE + 1) * 1000) // the time itself is what is tested
        assert.equal(next.settled, false)
        await held.release()
        const lock = await next.promise
        await sleep((LEASE + 1) * 1000)
        assert.equal(lock.signal.aborted, false)
        await lock.release()
        await holder.close()
        await standBy.close()
        await noLeftovers(server)
    })

test("JavaScript that blocks for three times the ttl keeps its lock", async (t) => {
    const server = await postgres(t, { password: true })
    const url = server.url(freshId(), { ttl: LEASE })
    const holder = await actor(t, url)
    await holder.tell("lock")
    const mutex = await opened(t, url)
    const time = 3 * LEASE * 1000
    const blocked = await holder.begin("block", time + 200)
    const error = await rejection(mutex.lock({ timeout: time }))
    assert.equal(error.code, "ERR_TIMEOUT")
    assert.equal((await blocked()).aborted, false)
    await holder.tell("release")
    await holder.begin("leave")
    await holder.child.success()
})

test("a process that exits frees its lock and its connections at once", async (t) => {
    const server = await postgres(t, { password: true })
    const url = server.url(freshId(), ENDLESS)
    const holder = await actor(t, url)
    await holder.tell("lock")
    const mutex = await opened(t, url)
    const next = mutex.lock()
    await waiters(server, 1)
    await holder.begin("exit", 0)
    assert.ok(await took(next) < AT_ONCE)
    await holder.child.success()
    await (await next).release()
    await mutex.close()
    await noLeftovers(server)
})

test("an acquire that was answered while its process stood still believes only in what an answer of afterwards proves", async (t) => {
    const server = await postgres(t, { password: true })
    const id = freshId()
    const mutex = await opened(t, server.url(id))
    const lock = await mutex.lock()
    const waits = await actor(t, server.url(id, { ttl: LEASE }))
    const answer = await waits.begin("lock")
    await waiters(server, 1)
    await waits.child.pause()
    await lock.release()
    await waitFor(async () => (await server.admin.locks()).map((each) => each.granted).join() === "true", { what: "the grant" })
    await sleep((LEASE + 0.5) * 1000) // the time itself is what is tested: longer than the lease
    const [ { pid } ] = (await server.admin.locks()).filter((each) => each.granted)
    await server.admin.terminate([ pid ])
    const other = await mutex.lock()
    waits.child.resume()
    await waiters(server, 1)
    assert.ok(other.token > lock.token)
    await other.release()
    assert.ok((await answer()).token > other.token)
    await waits.tell("release")
    await waits.tell("close")
    await mutex.close()
    await noLeftovers(server)
})
