// Loss: a hold that ended without release tells everybody who could still believe in it. Every server can be made to end a
// hold by `max_hold`; what else ends one is tested server by server.
import { test } from "node:test"
import assert from "node:assert/strict"
import { once } from "node:events"
import { freshId, opened, rejection, waiting } from "./world.mjs"

/** Holding and listening alone keep no process alive; the tests do. */
function stayAlive (t) {
    const timer = setInterval(() => {}, 1000)
    t.after(() => clearInterval(timer))
}

export function loss (world) {
    if (world.model !== "rpm")
        return
    const params = { max_hold: 1 }

    test("a lost hold aborts its signal, is told as an event, and its release rejects with the same error", async (t) => {
        stayAlive(t)
        const url = world.url(freshId(), params)
        const one = await opened(t, url), other = await opened(t, url)
        const lost = once(one, "lost")
        const lock = await one.lock()
        const { signal } = lock
        const next = other.lock()
        await waiting(one, 1)
        const [ error, hold ] = await lost
        assert.equal(error.code, "ERR_LOCK_LOST")
        assert.match(error.message, new RegExp(`"${one.id}".*max_hold`))
        assert.deepEqual(hold, { id: one.id, mode: "exclusive", token: lock.token })
        assert.equal(signal.aborted, true)
        assert.equal(signal.reason, error)
        assert.equal(await rejection(lock.release()), error)
        assert.equal(await rejection(lock.release()), error)
        const after = await next
        assert.ok(after.token > lock.token)
        await after.release()
        assert.deepEqual(await one.query(), { held: [], pending: [] })
    })

    test("a lost hold of plain acquire makes release reject, and the mutex goes on working", async (t) => {
        stayAlive(t)
        const one = await opened(t, world.url(freshId(), params))
        const lost = once(one, "lost")
        await one.acquire()
        const [ error ] = await lost
        assert.equal(await rejection(one.release()), error)
        assert.equal((await rejection(one.release())).code, "ERR_NOT_ACQUIRED")
        await one.acquire()
        await one.release()
    })

    test("withLock rejects when the lock was lost meanwhile, although the function succeeded", async (t) => {
        stayAlive(t)
        const one = await opened(t, world.url(freshId(), params))
        const error = await rejection(one.withLock(async (lock) => {
            await once(lock.signal, "abort")
            return "done"
        }))
        assert.equal(error.code, "ERR_LOCK_LOST")
    })

    test("shared holds are lost one by one", async (t) => {
        stayAlive(t)
        const one = await opened(t, world.url(freshId(), params))
        const locks = [ await one.lock({ shared: true }), await one.lock({ shared: true }) ]
        await locks[0].release()
        await once(locks[1].signal, "abort")
        assert.equal((await rejection(locks[1].release())).code, "ERR_LOCK_LOST")
        await one.acquire()
        await one.release()
    })

    test("a thread that was blocked past the end sees it at the next look, before it has heard of it", async (t) => {
        stayAlive(t)
        const one = await opened(t, world.url(freshId(), params))
        const lock = await one.lock()
        assert.equal(lock.signal.aborted, false)
        // Nothing is heard while the thread stands still; the addon's own thread goes on.
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1300)
        assert.equal(lock.signal.aborted, true)
        assert.equal(lock.signal.reason.code, "ERR_LOCK_LOST")
        assert.equal((await rejection(lock.release())).code, "ERR_LOCK_LOST")
    })
}
