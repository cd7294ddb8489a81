// Taking a lock from whoever has it. Where a coordinator cannot, it says so.
import { test } from "node:test"
import assert from "node:assert/strict"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { waitFor } from "../support/waiting.mjs"
import { aborted, fresh, manager, opened, rejection, watch } from "./world.mjs"

const isAbort = (error) => error instanceof DOMException && error.name === "AbortError"

/** Collects garbage, now. */
function collect () {
    setFlagsFromString("--expose-gc")
    runInNewContext("gc")()
}

export function steal (world) {
    if (!world.steals) {
        test("steal is refused, and the lock stays with its holder", async (t) => {
            const locks = manager(t, world)
            const name = fresh()
            const lock = await locks.lock(name)
            await assert.rejects(locks.request(name, { steal: true }, () => assert.fail("must not be called")), { name: "NotSupportedError" })
            await assert.rejects(locks.lock(name, { steal: true }), { code: "ERR_FEATURE_UNAVAILABLE_ON_PLATFORM" })
            const mutex = await opened(t, world.url(fresh()))
            await assert.rejects(mutex.lock({ steal: true }), { code: "ERR_FEATURE_UNAVAILABLE_ON_PLATFORM" })
            assert.equal(lock.signal.aborted, false)
            await lock.release()
        })
        return
    }

    test("steal: a free lock is just taken", async (t) => {
        const locks = manager(t, world)
        const name = fresh()
        assert.equal(await locks.request(name, { steal: true }, (lock) => lock.mode), "exclusive")
        await (await locks.lock(name, { steal: true })).release()
    })

    test("steal: the holders lose the lock at once, and the taker goes before the queue", async (t) => {
        const [ one, other ] = [ manager(t, world), manager(t, world) ]
        const name = fresh()
        const order = []
        let running
        const stolen = one.request(name, (lock) => {
            running = lock
            return new Promise(() => {})
        })
        const waiting = one.request(name, () => { order.push("waiting") })
        const rejected = rejection(stolen)
        await waitFor(async () => {
            const { pending } = await one.query()
            return running !== undefined && pending.some((info) => info.name === name)
        }, { what: "a holder and a waiter" })
        await other.request(name, { steal: true }, async (lock) => {
            order.push("thief")
            assert.ok(lock.token > running.token)
            assert.equal(running.signal.aborted, true)
            assert.equal(running.signal.reason.code, "ERR_LOCK_LOST")
            assert.ok(isAbort(await rejected))
            assert.equal(await one.tryLock(name), null)
        })
        await waiting
        assert.deepEqual(order, [ "thief", "waiting" ])
    })

    test("steal: no callback begins with a lock that was stolen, at whatever step between the grant and the callback", async (t) => {
        // At a server, a theft may come before the request, and the runtime's thread may hear of one while a callback begins.
        if (world.name !== "spm")
            return t.skip("only where grants and thefts happen in the call")
        const locks = manager(t, world)
        const name = fresh()
        for (let steps = 0; steps < 12; steps++) {
            const wasOver = []
            const requested = rejection(locks.request(name, (lock) => {
                wasOver.push(lock.signal.aborted)
                return new Promise(() => {})
            }))
            for (let step = 0; step < steps; step++)
                await null
            const thief = await locks.lock(name, { steal: true })
            assert.ok(isAbort(await requested))
            assert.ok(!wasOver.includes(true), `after ${steps} steps`)
            await thief.release()
        }
    })

    test("steal: all readers lose a shared lock", async (t) => {
        const locks = manager(t, world)
        const name = fresh()
        const readers = await Promise.all([ 1, 2, 3 ].map(() => locks.lock(name, { shared: true })))
        const lost = []
        locks.on("lost", (error, hold) => lost.push([ error.code, hold.name ]))
        const lock = await locks.lock(name, { steal: true })
        for (const reader of readers) {
            assert.equal(reader.signal.reason.code, "ERR_LOCK_LOST")
            assert.equal((await rejection(reader.release())).code, "ERR_LOCK_LOST")
        }
        assert.deepEqual(lost, [ 1, 2, 3 ].map(() => [ "ERR_LOCK_LOST", name ]))
        assert.equal(await locks.tryLock(name, { shared: true }), null)
        await lock.release()
        await (await locks.lock(name, { shared: true })).release()
    })

    test("steal: from a thief, and from oneself", async (t) => {
        const locks = manager(t, world)
        const name = fresh()
        const first = await locks.lock(name, { steal: true })
        const second = await locks.lock(name, { steal: true })
        assert.equal((await aborted(first.signal)).code, "ERR_LOCK_LOST")
        assert.equal(second.signal.aborted, false)
        await assert.rejects(first.release(), { code: "ERR_LOCK_LOST" })
        assert.equal(await locks.tryLock(name), null)
        await second.release()
    })

    test("steal: a mutex that has the lock by acquire() learns of it at its release, once, and holds it again later", async (t) => {
        const locks = manager(t, world)
        for (const observed of [ false, true ]) {
            const id = fresh()
            const mutex = await opened(t, world.url(id))
            const lost = []
            if (observed)
                mutex.on("lost", (error) => lost.push(error.code))
            await mutex.acquire()
            const lock = await locks.lock(id, { steal: true })
            await waitFor(() => !mutex.isHeld(), { what: "the mutex to hear of the theft" })
            assert.equal((await rejection(mutex.release())).code, "ERR_LOCK_LOST")
            assert.equal((await rejection(mutex.release())).code, "ERR_NOT_ACQUIRED")
            assert.equal(await mutex.tryAcquire(), false)
            await lock.release()
            await mutex.acquire()
            assert.equal(await locks.tryLock(id), null)
            await mutex.release()
            assert.deepEqual(lost, observed ? [ "ERR_LOCK_LOST" ] : [])
        }
    })

    test("steal: calls of acquire() that waited for their own object's hold go on waiting, behind the thief", async (t) => {
        const locks = manager(t, world)
        const id = fresh()
        const mutex = await opened(t, world.url(id))
        await mutex.acquire()
        const waiting = [ 1, 2, 3 ].map(() => watch(mutex.acquire()))
        const lock = await locks.lock(id, { steal: true })
        await assert.rejects(mutex.release(), { code: "ERR_LOCK_LOST" })
        assert.deepEqual(waiting.map(({ settled }) => settled), [ false, false, false ])
        // The first of them may be on its way to the server.
        await waitFor(async () => (await mutex.query()).pending.length === 3, { what: "three waiters" })
        await lock.release()
        for (const one of waiting) {
            await one.promise
            assert.equal(await locks.tryLock(id), null)
            await mutex.release()
        }
        assert.equal(await mutex.tryAcquire(), true)
        await mutex.release()
    })

    test("steal: the release() of a flow that was stolen from is its own, though another flow has acquired the mutex since", async (t) => {
        const locks = manager(t, world)
        for (const observed of [ false, true ]) {
            const id = fresh()
            const mutex = await opened(t, world.url(id))
            if (observed)
                mutex.on("lost", () => {})
            await mutex.acquire()
            await (await locks.lock(id, { steal: true })).release()
            await mutex.acquire()
            assert.equal((await rejection(mutex.release())).code, "ERR_LOCK_LOST")
            assert.equal(await locks.tryLock(id), null)
            await mutex.release()
            await (await locks.tryLock(id)).release()
        }
    })

    test("steal: what waited for a stolen hold leaves nothing behind once it was served", async (t) => {
        const locks = manager(t, world)
        const id = fresh()
        const mutex = await opened(t, world.url(id))
        const served = []
        for (let round = 0; round < 100; round++) {
            await mutex.acquire()
            const waiting = mutex.acquire()
            served.push(new WeakRef(waiting))
            const thief = await locks.lock(id, { steal: true })
            await assert.rejects(mutex.release(), { code: "ERR_LOCK_LOST" })
            await thief.release()
            await waiting
            await mutex.release()
        }
        await new Promise(setImmediate)
        collect()
        assert.ok(served.filter((promise) => promise.deref() !== undefined).length < 10)
    })

    test("steal is no call that waits: maxPending does not stop it", async (t) => {
        const locks = manager(t, world, { maxPending: 1 })
        const name = fresh()
        const lock = await locks.lock(name)
        const waiting = locks.lock(name)
        const thief = await locks.lock(name, { steal: true })
        assert.equal(lock.signal.aborted, true)
        await thief.release()
        await (await waiting).release()
    })

    test("steal: from the caller itself is no deadlock", async (t) => {
        const locks = manager(t, world, { detectDeadlocks: true })
        const name = fresh()
        await assert.rejects(locks.withLock(name, async (lock) => {
            const thief = await locks.lock(name, { steal: true })
            assert.equal(lock.signal.reason.code, "ERR_LOCK_LOST")
            await thief.release()
        }), { code: "ERR_LOCK_LOST" })
    })

    test("steal: those that waited so are ended by close()", async (t) => {
        const locks = manager(t, world)
        const id = fresh()
        const mutex = await opened(t, world.url(id))
        await mutex.acquire()
        const waiting = [ 1, 2 ].map(() => rejection(mutex.acquire()))
        const lock = await locks.lock(id, { steal: true })
        await mutex.close()
        for (const one of waiting)
            assert.equal((await one).code, "ERR_CLOSED")
        assert.equal((await locks.query()).pending.filter(({ name }) => name === id).length, 0)
        await lock.release()
    })

    test("steal of a mutex works alike, and not for a shared lock", async (t) => {
        const url = world.url(fresh())
        const [ one, other ] = [ await opened(t, url), await opened(t, url) ]
        const lock = await one.lock()
        const thief = await other.lock({ steal: true })
        assert.equal(lock.signal.reason.code, "ERR_LOCK_LOST")
        assert.match(lock.signal.reason.message, /stolen/)
        await assert.rejects(other.lock({ steal: true, shared: true }), { code: "ERR_INVALID_ARG_VALUE" })
        await assert.rejects(other.acquire({ steal: true }), { code: "ERR_INVALID_ARG_VALUE" })
        await thief.release()
    })
}
