// Loss: a hold that ended without release tells everybody who could still believe in it. Every server can be made to end a
// hold by `max_hold`; what else ends one is tested server by server.
import { test } from "node:test"
import assert from "node:assert/strict"
import { once } from "node:events"
import { waitFor } from "../support/waiting.mjs"
import { freshId, idle, opened, rejection } from "./world.mjs"

/** How long a hold lasts in these tests, in milliseconds. A machine may stand still for longer than that at any moment. */
const LIMIT = 1000

/** Holding and listening alone keep no process alive; the tests do. */
function stayAlive (t) {
    const timer = setInterval(() => {}, 1000)
    t.after(() => clearInterval(timer))
}

/** Resolves when the signal has aborted, which it may have before this is called. */
async function aborted (signal) {
    if (!signal.aborted)
        await once(signal, "abort")
}

/** Releases what was granted after `begun`: it must not have been lost before its time was over. */
async function release (held, begun) {
    const error = await held.release().then(() => undefined, (reason) => reason)
    if (error !== undefined && !(error.code === "ERR_LOCK_LOST" && performance.now() - begun >= LIMIT))
        throw error
}

export function loss (world) {
    if (world.model !== "rpm")
        return
    const params = { max_hold: LIMIT / 1000 }

    test("a lost hold aborts its signal, is told as an event, and its release rejects with the same error", async (t) => {
        stayAlive(t)
        const url = world.url(freshId(), params)
        const one = await opened(t, url), other = await opened(t, url)
        const lost = once(one, "lost")
        const begun = performance.now()
        const lock = await one.lock()
        const { signal } = lock
        // lost before this thread came to look, which had not heard why
        const early = signal.aborted
        assert.ok(!early || performance.now() - begun >= LIMIT)
        const next = other.lock()
        await waitFor(async () => signal.aborted || (await one.query()).pending.length === 1, { timeout: 60_000, what: "the other to wait" })
        const [ error, hold ] = await lost
        assert.equal(error.code, "ERR_LOCK_LOST")
        if (!early)
            assert.match(error.message, new RegExp(`"${one.id}".*max_hold`))
        assert.deepEqual(hold, { id: one.id, mode: "exclusive", token: lock.token })
        assert.equal(signal.aborted, true)
        assert.equal(signal.reason, error)
        assert.equal(await rejection(lock.release()), error)
        assert.equal(await rejection(lock.release()), error)
        const after = await next
        assert.ok(after.token > lock.token)
        // it was granted behind the end of the first
        await release(after, begun + LIMIT)
        await idle(one)
    })

    test("a lost hold of plain acquire makes release reject, and the mutex goes on working", async (t) => {
        stayAlive(t)
        const one = await opened(t, world.url(freshId(), params))
        const lost = once(one, "lost")
        await one.acquire()
        const [ error ] = await lost
        assert.equal(await rejection(one.release()), error)
        assert.equal((await rejection(one.release())).code, "ERR_NOT_ACQUIRED")
        const begun = performance.now()
        await one.acquire()
        await release(one, begun)
    })

    test("withLock rejects when the lock was lost meanwhile, although the function succeeded", async (t) => {
        stayAlive(t)
        const one = await opened(t, world.url(freshId(), params))
        const error = await rejection(one.withLock(async (lock) => {
            await aborted(lock.signal)
            return "done"
        }))
        assert.equal(error.code, "ERR_LOCK_LOST")
    })

    test("shared holds are lost one by one", async (t) => {
        stayAlive(t)
        const one = await opened(t, world.url(freshId(), params))
        const begun = performance.now()
        const locks = [ await one.lock({ shared: true }), await one.lock({ shared: true }) ]
        await release(locks[0], begun)
        await aborted(locks[1].signal)
        assert.equal((await rejection(locks[1].release())).code, "ERR_LOCK_LOST")
        const again = performance.now()
        await one.acquire()
        await release(one, again)
    })

    test("a thread that was blocked past the end sees it at the next look, before it has heard of it", async (t) => {
        stayAlive(t)
        const one = await opened(t, world.url(freshId(), params))
        const begun = performance.now()
        const lock = await one.lock()
        assert.ok(!lock.signal.aborted || performance.now() - begun >= LIMIT)
        // Nothing is heard while the thread stands still; the addon's own thread goes on, and may be a little late itself.
        const standStill = (milliseconds) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
        standStill(LIMIT + 300)
        while (!lock.signal.aborted && performance.now() - begun < 60_000)
            standStill(20)
        assert.equal(lock.signal.aborted, true)
        assert.equal(lock.signal.reason.code, "ERR_LOCK_LOST")
        assert.equal((await rejection(lock.release())).code, "ERR_LOCK_LOST")
    })
}
