// Requests that are made while open() is under way.
import { test } from "node:test"
import assert from "node:assert/strict"
import { AsyncLocalStorage } from "node:async_hooks"
import { Mutex, freshId, idle, opened, rejection, watch } from "./world.mjs"

/** A mutex whose open() has been called. */
function opening (t, world) {
    const mutex = new Mutex(world.url(freshId()))
    const open = mutex.open()
    t.after(() => mutex[Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")]())
    return { mutex, open }
}

export function early (world) {
    test("requests wait for open(), and are served in their order, before those that come after it", async (t) => {
        const { mutex, open } = opening(t, world)
        const order = []
        const got = (number) => async (lock) => {
            order.push(number)
            await lock.release()
        }
        const later = open.then(() => mutex.lock().then(got(4)))
        const requests = [ mutex.lock({ timeout: 300_000 }).then(got(1)), mutex.withLock(() => order.push(2)), mutex.lock().then(got(3)) ]
        await Promise.all([ ...requests, later ])
        assert.deepEqual(order, [ 1, 2, 3, 4 ])
    })

    test("each kind of call works while open() is under way", async (t) => {
        for (const [ call, release ] of [
            [ (mutex) => mutex.acquire(), (_, mutex) => mutex.release() ],
            [ (mutex) => mutex.acquire({ shared: true }), (_, mutex) => mutex.release() ],
            [ (mutex) => mutex.tryAcquire(), (taken, mutex) => taken && mutex.release() ],
            [ (mutex) => mutex.lock(), (lock) => lock.release() ],
            [ (mutex) => mutex.tryLock({ shared: true }), (lock) => lock.release() ],
            [ (mutex) => mutex.withLock((lock) => lock.mode), (mode) => assert.equal(mode, "exclusive") ],
            [ (mutex) => mutex.query(), (seen) => assert.deepEqual(seen, { held: [], pending: [] }) ]
        ]) {
            const { mutex, open } = opening(t, world)
            await release(await call(mutex), mutex)
            await open
            await idle(mutex)
        }
    })

    test("a try that comes early finds the lock taken by an earlier one", async (t) => {
        const { mutex } = opening(t, world)
        const [ first, second, third ] = await Promise.all([ mutex.tryLock(), mutex.tryAcquire(), mutex.tryLock() ])
        assert.deepEqual([ first.mode, second, third ], [ "exclusive", false, null ])
        await first.release()
    })

    test("release() in the step of an early acquire() gives it back, and without one there is nothing to release", async (t) => {
        const { mutex } = opening(t, world)
        assert.equal((await rejection(mutex.release())).code, "ERR_NOT_ACQUIRED")
        const next = opening(t, world).mutex
        await Promise.all([ next.acquire(), next.release() ])
        await idle(next)
    })

    test("a signal ends an early request, and one that has aborted does so at once", async (t) => {
        const { mutex, open } = opening(t, world)
        const controller = new AbortController()
        const requests = [ mutex.lock({ signal: controller.signal }), mutex.lock({ signal: AbortSignal.abort("before") }) ].map(rejection)
        controller.abort("then")
        assert.deepEqual(await Promise.all(requests), [ "then", "before" ])
        await open
        await idle(mutex)
    })

    test("close() rejects early requests, as it does others", async (t) => {
        const { mutex } = opening(t, world)
        const requests = [ mutex.lock(), mutex.acquire(), mutex.withLock(() => assert.fail("must not be called")) ].map(rejection)
        const closing = mutex.close()
        requests.push(rejection(mutex.tryLock()))
        await closing
        assert.deepEqual((await Promise.all(requests)).map(({ code }) => code), Array(4).fill("ERR_CLOSED"))
        assert.equal((await rejection(mutex.lock())).code, "ERR_NOT_OPEN")
        await idle(await opened(t, world.url(mutex.id)))
    })

    test("an early request is in the asynchronous context of its caller", async (t) => {
        const { mutex } = opening(t, world)
        const storage = new AsyncLocalStorage()
        const seen = []
        mutex.on("acquire", () => seen.push(storage.getStore()))
        await Promise.all([ "one", "other" ].map((who) => storage.run(who, () => mutex.withLock(() => assert.equal(storage.getStore(), who)))))
        assert.deepEqual(seen, [ "one", "other" ])
    })

    if (world.model === "rpm")
        test("an open() that fails rejects early requests with its error; one that gave up before has its own", async () => {
            const url = new URL(world.url(freshId(), { connect_timeout: 1 }))
            url.port = "1"
            const mutex = new Mutex(url)
            const open = rejection(mutex.open())
            const controller = new AbortController()
            const given = watch(mutex.lock({ signal: controller.signal }).catch((reason) => reason))
            const early = [ mutex.lock(), mutex.acquire(), mutex.tryLock({ shared: true }), mutex.withLock(() => assert.fail("must not be called")) ]
            const rejections = [ ...early, mutex.query() ].map(rejection)
            controller.abort("mine")
            assert.equal(await given.promise, "mine")
            const error = await open
            for (const each of await Promise.all(rejections))
                assert.deepEqual([ each.code, each.message, each.cause ], [ error.code, error.message, error.cause ])
            assert.equal((await rejection(mutex.lock())).code, "ERR_NOT_OPEN")
        })
}
