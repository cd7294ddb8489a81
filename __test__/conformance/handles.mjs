// Handles: lock, tryLock, withLock and await using.
import { test } from "node:test"
import assert from "node:assert/strict"
import { inspect } from "node:util"
import { Mutex, freshId, opened, rejection, two, waiting, watch } from "./world.mjs"

const asyncDispose = Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")

export function handles (world) {
    test("isHeld tells at once whether this object holds the lock, by whatever call", async (t) => {
        const [ one, other ] = await two(t, world)
        const seen = () => [ one.isHeld(), other.isHeld() ]
        assert.deepEqual(seen(), [ false, false ])
        await one.acquire()
        assert.deepEqual(seen(), [ true, false ])
        const waiting = other.lock()
        assert.deepEqual(seen(), [ true, false ])
        const release = one.release()
        assert.equal(one.isHeld(), false)
        await release
        const lock = await waiting
        assert.deepEqual(seen(), [ false, true ])
        await lock.release()
        assert.equal(await one.tryAcquire({ shared: true }), true)
        await one.withLock({ shared: true }, () => assert.equal(one.isHeld(), true))
        assert.equal(one.isHeld(), true)
        await one.close()
        assert.deepEqual(seen(), [ false, false ])
    })

    test("lock gives a handle that says what it is", async (t) => {
        const [ one ] = await two(t, world)
        const lock = await one.lock()
        assert.equal(lock.id, one.id)
        assert.equal(lock.mode, "exclusive")
        assert.equal(typeof lock.token, "bigint")
        assert.equal(lock.signal.aborted, false)
        assert.match(inspect(lock), /held/)
        await lock.release()
        assert.match(inspect(lock), /released/)
    })

    test("release of a handle is idempotent and frees only what it holds", async (t) => {
        const [ one, other ] = await two(t, world)
        const first = await one.lock()
        await Promise.all([ first.release(), first.release() ])
        const second = await other.lock()
        await first.release()
        assert.equal(await one.tryLock(), null)
        await second.release()
    })

    test("handles are independent of acquire and release of the same object", async (t) => {
        const [ one ] = await two(t, world)
        const lock = await one.lock()
        assert.equal((await rejection(one.release())).code, "ERR_NOT_ACQUIRED")
        const acquired = watch(one.acquire())
        await waiting(one, 1)
        assert.equal(acquired.settled, false)
        await lock.release()
        await acquired.promise
        await lock.release()
        assert.equal(await one.tryAcquire(), false, "released once, the handle does not release the other hold")
        await one.release()
    })

    test("tryLock gives null and tryAcquire false while the lock is taken, and never wait", async (t) => {
        const [ one, other ] = await two(t, world)
        const lock = await one.tryLock()
        assert.equal(lock.mode, "exclusive")
        assert.equal(await other.tryLock(), null)
        assert.equal(await other.tryAcquire(), false)
        assert.equal(await one.tryLock({ shared: true }), null)
        await lock.release()
        assert.equal(await other.tryAcquire(), true)
        await other.release()
        assert.deepEqual((await one.query()).pending, [])
    })

    test("withLock passes the lock, gives back what the function gives, and releases", async (t) => {
        const [ one, other ] = await two(t, world)
        assert.equal(await one.withLock(async (lock) => {
            assert.equal(lock.mode, "exclusive")
            assert.equal(await other.tryLock(), null)
            return 42
        }), 42)
        assert.equal(await one.withLock({ shared: true }, (lock) => lock.mode), "shared")
        assert.equal(await other.tryAcquire(), true)
        await other.release()
    })

    test("withLock releases when the function throws, at once or later", async (t) => {
        const [ one, other ] = await two(t, world)
        const failures = [ () => { throw new Error("now") }, async () => { throw new Error("later") } ]
        for (const fn of failures)
            await assert.rejects(one.withLock(fn), /now|later/)
        assert.equal(await other.tryAcquire(), true)
        await other.release()
    })

    test("if function and release both fail, withLock reports the function's error with the other attached", async (t) => {
        const [ one ] = await two(t, world)
        const boom = new Error("boom")
        const error = await rejection(one.withLock(async (lock) => {
            lock.release = () => Promise.reject(new Error("no release"))
            throw boom
        }))
        assert.equal(error, boom)
        assert.match(error.releaseError.message, /no release/)
    })

    test("withLock without a function rejects, and so do options of the wrong kind", async (t) => {
        const [ one ] = await two(t, world)
        const wrong = [
            () => one.withLock(), () => one.withLock({ shared: true }), () => one.acquire(null), () => one.acquire(5),
            () => one.lock({ shared: 1 }), () => one.lock({ timeout: "1" }), () => one.tryLock({ shared: "yes" }),
            () => one.lock({ signal: {} })
        ]
        for (const call of wrong)
            assert.equal((await rejection(call())).code, "ERR_INVALID_ARG_TYPE", String(call))
        for (const timeout of [ -1, NaN ])
            assert.equal((await rejection(one.acquire({ timeout }))).code, "ERR_OUT_OF_RANGE")
        assert.equal(await one.tryAcquire(), true)
        await one.release()
    })

    test("locks and mutexes dispose of themselves", async (t) => {
        const url = world.url(freshId())
        const other = await opened(t, url)
        const mutex = new Mutex(url)
        await mutex.open()
        const lock = await mutex.lock()
        await lock[asyncDispose]()
        assert.equal(await other.tryAcquire(), true)
        await other.release()
        await mutex.lock()
        await mutex[asyncDispose]()
        assert.equal(await other.tryAcquire(), true)
        await other.release()
        await mutex[asyncDispose]()
    })

    test("nobody can make a lock but the package", async (t) => {
        const [ one ] = await two(t, world)
        const lock = await one.lock()
        assert.throws(() => new lock.constructor(), TypeError)
        await lock.release()
    })

    test("close ends handles: their signal aborts and their release does nothing", async (t) => {
        const url = world.url(freshId())
        const mutex = new Mutex(url)
        await mutex.open()
        const lock = await mutex.lock()
        const { signal } = lock
        await mutex.close()
        assert.equal(signal.aborted, true)
        assert.equal(signal.reason.code, "ERR_CLOSED")
        await lock.release()
        const other = await opened(t, url)
        assert.equal(await other.tryAcquire(), true)
        await other.release()
    })
}
