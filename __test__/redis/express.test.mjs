// The express lane: uncontended calls that this thread makes by a socket of its own. What may happen to them on the way.
import assert from "node:assert/strict"
import { test } from "node:test"
import { Mutex } from "../../index.mjs"
import { opened, pending } from "../support/contenders.mjs"
import { startChild } from "../support/children.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { legacy } from "../support/legacy.mjs"
import { startProxy } from "../support/proxy.mjs"
import { noLeftovers, redis } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"
import { lanedThread } from "./laned-thread.mjs"
import { byLane, lines, warm, ways } from "./lane.mjs"

watchLeaks()

const PROGRAM = new URL("./laned.mjs", import.meta.url)
const KEY = "foo/lock.IPC-Mutex-rpm"

/** A server, a mutex in the lane that reaches it through a proxy, and one that does not and stays out of the lane. */
async function split (t, params = {}) {
    const server = await redis(t)
    const proxy = await startProxy(server, t)
    const far = await opened(t, server.url("foo", params, proxy.port))
    await warm(far)
    // Shared requests and queries never go by the lane, and another server's name has locks of its own in this process.
    const near = await opened(t, server.url("foo", { ...params, connect_timeout: 30 }))
    return { server, proxy, far, near }
}

/** How many hold the lock, as the server says. */
const held = async (mutex) => (await mutex.query()).held.length
const isFree = async (server) => (await server.admin.command("EXISTS", KEY)) === 0

/** Closes the mutexes, and sees to it that nothing is left. */
async function over (server, ...mutexes) {
    for (const mutex of mutexes)
        await mutex.close()
    await noLeftovers(server, { timeout: 40_000 })
}

test("every uncontended way to take the lock goes by the lane, and tokens grow", async (t) => {
    const server = await redis(t)
    const mutex = await opened(t, server.url("foo"))
    await warm(mutex)
    await byLane(async () => {
        await mutex.acquire()
        await mutex.release()
        assert.equal(await mutex.tryAcquire(), true)
        await mutex.release()
        const one = await mutex.lock()
        await one.release()
        const two = await mutex.tryLock()
        assert.ok(two.token > one.token)
        assert.equal(two.signal.aborted, false)
        await two.release()
        assert.equal(ways.length, 8)
    })
    await assert.rejects(mutex.release(), { code: "ERR_NOT_ACQUIRED" })
    await over(server, mutex)
})

test("a thousand open mutexes, some of them in use, have three connections", async (t) => {
    const server = await redis(t)
    const mutexes = Array.from({ length: 1000 }, (_, at) => new Mutex(server.url(`foo-${at}`)))
    await Promise.all(mutexes.map((mutex) => mutex.open()))
    await warm(mutexes[0])
    const some = mutexes.slice(0, 100)
    await byLane(async () => {
        await Promise.all(some.map((mutex) => mutex.acquire()))
        await waitFor(async () => (await server.admin.clients()).length <= 3, { what: "no more than three connections" })
        await Promise.all(some.map((mutex) => mutex.release()))
    })
    await Promise.all(mutexes.map((mutex) => mutex.close()))
    await noLeftovers(server)
})

test("many locks at once are asked for in few writes", async (t) => {
    const server = await redis(t)
    const proxy = await startProxy(server, t)
    const mutexes = await Promise.all(Array.from({ length: 64 }, (_, at) => opened(t, server.url(`foo-${at}`, {}, proxy.port))))
    await warm(mutexes[0])
    await byLane(async () => {
        await Promise.all(mutexes.map((mutex) => mutex.acquire()))
        await Promise.all(mutexes.map((mutex) => mutex.release()))
    }, { times: 5 })
    await over(server, ...mutexes)
})

test("a hold that lasts is renewed, and shown by query()", async (t) => {
    const server = await redis(t)
    const mutex = await opened(t, server.url("foo", { ttl: 8 }))
    const other = await opened(t, server.url("foo", { ttl: 9 })) // another client of the server, in the eyes of this process
    await warm(mutex)
    const lock = await mutex.lock()
    assert.deepEqual(ways, [ "lane" ])
    const { held: [ info ] } = await mutex.query()
    assert.equal(info.pid, process.pid)
    assert.equal(info.token, lock.token)
    const end = performance.now() + 9000
    let isKept = true
    await waitFor(async () => {
        isKept &&= !await other.tryAcquire() && !lock.signal.aborted
        return !isKept || performance.now() > end
    }, { timeout: 60_000 })
    assert.ok(isKept)
    await lock.release()
    await over(server, mutex, other)
})

test("a lock that an old process holds is waited for, in order", async (t) => {
    const server = await redis(t)
    const mutex = await opened(t, server.url("foo"))
    await warm(mutex)
    const old = legacy(server)
    t.after(() => old.close())
    await old.acquire("foo")
    assert.equal(await mutex.tryAcquire(), false)
    const order = []
    const waiting = [ 1, 2, 3 ].map(async (number) => {
        const lock = await mutex.lock()
        order.push(number)
        await lock.release()
    })
    await pending(mutex, 3)
    await old.release("foo")
    await Promise.all(waiting)
    assert.deepEqual(order, [ 1, 2, 3 ])
    await old.close()
    await over(server, mutex)
})

test("a release and the next acquire may be made in one breath", async (t) => {
    const server = await redis(t)
    const mutex = await opened(t, server.url("foo"))
    for (let round = 0; round < 50; round++) {
        await warm(mutex)
        await mutex.acquire()
        const released = mutex.release()
        const next = mutex.lock()
        const last = mutex.lock()
        await released
        await (await next).release()
        await (await last).release()
    }
    await over(server, mutex)
})

test("a server that has forgotten the scripts gets them again", async (t) => {
    const server = await redis(t)
    const mutex = await opened(t, server.url("foo"))
    await warm(mutex)
    await server.admin.command("SCRIPT", "FLUSH")
    await mutex.acquire()
    await server.admin.command("SCRIPT", "FLUSH")
    await mutex.release()
    await warm(mutex)
    await over(server, mutex)
})

test("an acquire is withdrawn exactly, whenever the signal comes", async (t) => {
    const server = await redis(t)
    const mutex = await opened(t, server.url("foo", { ttl: 60 }))
    const other = await opened(t, server.url("foo", { ttl: 61 }))
    const moments = [
        () => {}, () => Promise.resolve(), () => new Promise((resolve) => process.nextTick(resolve)),
        () => new Promise((resolve) => setImmediate(resolve)), () => new Promise((resolve) => setTimeout(resolve, 1))
    ]
    for (let round = 0; round < 60; round++) {
        await warm(mutex)
        const controller = new AbortController()
        const asked = mutex.lock({ signal: controller.signal })
        assert.deepEqual(ways, [ "lane" ])
        await moments[round % moments.length]()
        const begun = performance.now()
        controller.abort(new Error("enough"))
        const lock = await asked.catch((error) => {
            assert.equal(error.message, "enough")
            return null
        })
        await lock?.release()
        // After a second the caller hears of it, however far the clearing away has come; its end comes long before that of the lease.
        if (performance.now() - begun >= 1000)
            await waitFor(async () => await held(other) === 0, { what: "a withdrawn request to be cleared away" })
        assert.equal(await held(other), 0)
        assert.equal(await other.tryAcquire(), true, "nobody has it any more")
        await other.release()
    }
    await over(server, mutex, other)
})

test("close() gives back what is asked for, held and released in the lane", async (t) => {
    const server = await redis(t)
    for (let round = 0; round < 20; round++) {
        const mutex = await opened(t, server.url("foo", { connect_timeout: 30 }))
        await warm(mutex)
        const asked = mutex.acquire()
        if (round % 4 === 0)
            await Promise.all([ assert.rejects(asked, { code: "ERR_CLOSED" }), mutex.close() ])
        else {
            await asked
            const released = round % 4 === 1 ? mutex.release() : undefined
            await Promise.all([ mutex.close(), released ])
        }
        assert.ok(await isFree(server))
    }
    await noLeftovers(server)
})

for (const act of [ "holding", "asking" ])
    test(`a worker thread that is terminated while ${act} in the lane leaves the lock free at once`, async (t) => {
        const server = await redis(t)
        const url = server.url("foo", { ttl: 60 })
        const mutex = await opened(t, url)
        for (let round = 0; round < 3; round++) {
            const thread = lanedThread(t, url, act)
            assert.deepEqual((await thread.message("ready")).ways, [ "lane" ])
            const begun = performance.now()
            await thread.terminate()
            await (await mutex.lock()).release()
            assert.ok(performance.now() - begun < 30_000, "long before its lease is over")
        }
        await over(server, mutex)
    })

for (const act of [ "exiting", "askingAndExiting" ])
    test(`a process that ends while ${act === "exiting" ? "holding" : "asking"} in the lane leaves the lock free at once`, async (t) => {
        const server = await redis(t)
        const child = await startChild(t, PROGRAM, [ server.url("foo", { ttl: 60 }), act ])
        await child.message("ready")
        await child.success()
        await waitFor(() => isFree(server), { what: "the lock to be free long before its lease is over" })
        await noLeftovers(server)
    })

test("a process with nothing to do ends, though its connection in the lane is open", async (t) => {
    const server = await redis(t)
    const child = await startChild(t, PROGRAM, [ server.url("foo"), "idle" ])
    await child.message("ready")
    await child.success({ timeout: 25_000 }) // less than the 30 s after which a silent connection is closed
    await noLeftovers(server)
})

test("JavaScript that computes for longer than a lease right after it asked has the lock all the time", async (t) => {
    const server = await redis(t)
    const url = server.url("foo", { ttl: 8 })
    const mutex = await opened(t, url)
    const thread = lanedThread(t, url, "blocked", { ms: 10_000 })
    assert.deepEqual((await thread.message("ready")).ways, [ "lane" ])
    await waitFor(async () => await held(mutex) === 1)
    const waiting = mutex.lock() // looks after the holder all the time
    assert.equal((await thread.message("spun")).aborted, false)
    await pending(mutex, 1)
    thread.send("release")
    await (await waiting).release()
    await over(server, mutex)
})

test("threads that contend, in and out of the lane, are never inside together", async (t) => {
    const server = await redis(t)
    const inside = new Int32Array(new SharedArrayBuffer(4))
    const threads = [ 1, 2, 3 ].map(() => lanedThread(t, server.url("foo"), "counting", { inside, rounds: 300 }))
    for (const { company } of await Promise.all(threads.map((thread) => thread.message("counted"))))
        assert.equal(company, 0)
    await noLeftovers(server)
})

test("an answer that is lost with its connection is asked for again; nobody gets the lock twice", async (t) => {
    const { server, proxy, far, near } = await split(t, { connect_timeout: 30 })
    for (let round = 0; round < 3; round++) {
        await warm(far)
        const { lost } = proxy.bytes
        proxy.dropReplies()
        const asked = far.lock()
        assert.deepEqual(ways, [ "lane" ])
        await waitFor(async () => await held(near) === 1 && proxy.bytes.lost > lost)
        await proxy.pass() // which resets the connections that lost something
        const lock = await asked
        assert.equal(await held(near), 1)
        await lock.release()
        assert.equal(await held(near), 0)
    }
    await over(server, far, near)
})

test("a release whose answer is lost succeeds", async (t) => {
    const { server, proxy, far, near } = await split(t, { connect_timeout: 30 })
    await byLane(async () => {
        await warm(far)
        const lock = await far.lock()
        const { lost } = proxy.bytes
        proxy.dropReplies()
        const released = lock.release()
        await waitFor(async () => await held(near) === 0 && proxy.bytes.lost > lost)
        await proxy.pass()
        await released
        assert.equal(ways.length, 2)
    }, { times: 3 })
    await over(server, far, near)
})

test("a request that vanishes on the way is made again, and the silent connection is not used until then", async (t) => {
    const { server, proxy, far, near } = await split(t, { connect_timeout: 30 })
    proxy.blackhole()
    const asked = far.lock()
    assert.deepEqual(ways, [ "lane" ])
    await waitFor(() => proxy.bytes.lost > 0, { what: "the request to vanish" })
    assert.equal(await far.tryLock(), null, "somebody of this process is before it")
    await proxy.pass()
    const lock = await asked
    assert.equal(await held(near), 1)
    await lock.release()
    await over(server, far, near)
})

test("what is withdrawn while it is on its way never takes the lock", async (t) => {
    const { server, proxy, far, near } = await split(t)
    for (const delay of [ 5, 50, 300 ]) {
        proxy.delay(0)
        await warm(far)
        proxy.delay(delay)
        const asked = far.lock({ timeout: 1 })
        assert.deepEqual(ways, [ "lane" ])
        await assert.rejects(asked, { code: "ERR_TIMEOUT" })
        await far.query() // comes after everything that was on its way
        await waitFor(async () => await held(near) === 0 && (await near.query()).pending.length === 0)
        const lock = await near.tryLock()
        assert.notEqual(lock, null)
        await lock.release()
    }
    proxy.delay(0)
    await over(server, far, near)
})

test("a connection whose answer does not come is ended at the server before the lock is given back", async (t) => {
    const { server, proxy, far, near } = await split(t, { connect_timeout: 1 })
    const before = await lines(server)
    assert.equal(before.length, 1)
    proxy.blackhole()
    const asked = far.lock({ timeout: 100 })
    assert.deepEqual(ways, [ "lane" ])
    await assert.rejects(asked, { code: "ERR_TIMEOUT" })
    await proxy.pass({ keep: true }) // the proxy keeps its end of the old connections open
    await waitFor(async () => (await lines(server)).every(({ id }) => id !== before[0].id), { timeout: 40_000 })
    assert.equal(await held(near), 0)
    await proxy.pass()
    await over(server, far, near)
})

test("a server that restarts without its data is noticed by who holds in the lane", async (t) => {
    const server = await redis(t)
    const mutex = await opened(t, server.url("foo", { ttl: 90 }))
    await warm(mutex)
    const lock = await mutex.lock()
    assert.deepEqual(ways, [ "lane" ])
    await server.kill()
    await server.start()
    await waitFor(() => lock.signal.aborted, { timeout: 20_000 }) // long before its lease is over, and before its first renewal
    assert.equal(lock.signal.reason.code, "ERR_LOCK_LOST")
    await assert.rejects(lock.release(), { code: "ERR_LOCK_LOST" })
    await warm(mutex)
    await over(server, mutex)
})

test("a hold whose key was deleted is lost at its release", async (t) => {
    const server = await redis(t)
    const mutex = await opened(t, server.url("foo", { ttl: 60 })) // no renewal finds that out before
    await warm(mutex)
    const lock = await mutex.lock()
    await server.admin.command("DEL", KEY)
    await assert.rejects(lock.release(), { code: "ERR_LOCK_LOST" })
    await warm(mutex)
    await over(server, mutex)
})

test("a hold whose key was deleted is lost at its release, also after another request has come", async (t) => {
    const server = await redis(t)
    const mutex = await opened(t, server.url("foo", { ttl: 60 })) // no renewal finds that out before
    await warm(mutex)
    const lock = await mutex.lock()
    assert.deepEqual(ways, [ "lane" ])
    await server.admin.command("DEL", KEY)
    assert.equal(await mutex.tryAcquire(), false)
    await assert.rejects(lock.release(), { code: "ERR_LOCK_LOST" })
    await over(server, mutex)
})

test("a server without room for the lane's connection does without it", async (t) => {
    const server = await redis(t)
    const proxy = await startProxy(server, t)
    const mutex = await opened(t, server.url("foo", { connect_timeout: 30, ttl: 60 }, proxy.port))
    await proxy.refuse()
    for (let round = 0; round < 20; round++) {
        await mutex.acquire()
        await mutex.release()
    }
    assert.deepEqual(await lines(server), [])
    await over(server, mutex)
})

test("the lane's connection goes with the last mutex, and comes back with the next", async (t) => {
    const server = await redis(t, { password: "a \"b\" c", config: [ "databases 4" ] })
    for (const params of [ {}, { db: 3 } ]) {
        const mutex = await opened(t, server.url("foo", params))
        const another = await opened(t, server.url("bar", params))
        await warm(mutex)
        await warm(another)
        assert.equal((await lines(server)).length, 1)
        await mutex.close()
        await warm(another)
        await over(server, another)
    }
})

for (const [ what, options, params ] of [ [ "max_hold", {}, { max_hold: 60 } ], [ "TLS", { tls: true }, {} ] ])
    test(`there is no lane for locks with ${what}`, async (t) => {
        const server = await redis(t, options)
        const mutex = await opened(t, server.url("foo", params))
        ways.length = 0
        for (let round = 0; round < 5; round++) {
            await mutex.acquire()
            await mutex.release()
        }
        assert.deepEqual(new Set(ways), new Set([ "runtime" ]))
        assert.deepEqual(await lines(server), [])
        await over(server, mutex)
    })
