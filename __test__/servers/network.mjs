// What a cut, silent or lying network does to locks of a server. The same on every server that counts leases; each calls
// this with what is its own.
import assert from "node:assert/strict"
import { test } from "node:test"
import { opened, pending } from "../support/contenders.mjs"
import { startProxy } from "../support/proxy.mjs"
import { noLeftovers } from "../support/servers.mjs"
import { waitFor } from "../support/waiting.mjs"

/** A server, a mutex that reaches it through a proxy, and one that does not; both have held the lock once. */
export async function split (t, start, params = {}) {
    const server = await start(t)
    const proxy = await startProxy(server, t)
    const far = await opened(t, server.url("foo", params, proxy.port))
    // What is to be shown of far must not depend on how fast near is answered.
    const near = await opened(t, server.url("foo", { ...params, connect_timeout: 30 }))
    // so that sessions and scripts exist, far knows the lock as it left it, and one message is one step from here on
    for (const mutex of [ near, far ])
        await (await mutex.lock()).release()
    return { server, proxy, far, near }
}

/** Closes both mutexes, and sees to it that nothing is left. */
export async function over ({ server, far, near }) {
    await far.close()
    await near.close()
    await noLeftovers(server, { timeout: 30_000 })
}

/**
 * @param {(t: object) => Promise<object>} start one of support/servers.mjs
 * @param {object} [params] query parameters for a short lease, if the server has one
 */
export function testNetwork (start, params = {}) {
    test("a cut connection costs neither the hold nor the place in the queue", async (t) => {
        const all = await split(t, start, { connect_timeout: 30 })
        const { proxy, far, near } = all
        const lock = await far.lock()
        proxy.reset()
        await waitFor(async () => (await far.query().catch(() => ({ held: [] }))).held.length === 1)
        const waiting = near.lock()
        await pending(near, 1)
        proxy.reset()
        await lock.release()
        const next = await waiting
        const back = far.lock()
        await pending(near, 1)
        proxy.reset()
        await next.release()
        await (await back).release()
        await over(all)
    })

    test("an acquire whose answer was lost is neither granted twice nor left behind", async (t) => {
        const all = await split(t, start, { connect_timeout: 30 })
        const { proxy, far, near } = all
        proxy.dropReplies()
        const waiting = far.lock()
        await waitFor(async () => (await near.query()).held.length === 1)
        await proxy.pass()
        const lock = await waiting
        assert.equal((await near.query()).held.length, 1)
        await lock.release()
        proxy.dropReplies()
        const controller = new AbortController()
        const quitting = far.lock({ signal: controller.signal })
        await waitFor(async () => (await near.query()).held.length === 1)
        controller.abort()
        await assert.rejects(quitting, { name: "AbortError" })
        await proxy.pass()
        await waitFor(async () => (await near.query()).held.length === 0)
        await over(all)
    })

    test("a release whose answer was lost has freed the lock, and succeeds once the server answers", async (t) => {
        const all = await split(t, start, { connect_timeout: 30 })
        const { proxy, far, near } = all
        const lock = await far.lock()
        proxy.dropReplies()
        const releasing = lock.release()
        await waitFor(async () => (await near.query()).held.length === 0)
        await proxy.pass()
        await releasing
        await over(all)
    })

    test("a holder behind a dead network gives up before anybody else can get the lock", async (t) => {
        const all = await split(t, start, { ...params, connect_timeout: 1 })
        const { proxy, far, near } = all
        const lock = await far.lock()
        const lost = new Promise((resolve) => lock.signal.addEventListener("abort", resolve, { once: true }))
        // After a moment in which the process stood still both are due at once, and the signal says what is so at the moment of the look.
        const waiting = near.lock().then((next) => ({ next, gaveUp: lock.signal.aborted }))
        await pending(near, 1)
        proxy.blackhole()
        const { next, gaveUp } = await waiting
        assert.ok(gaveUp, "the loss is there before the next grant")
        await lost
        assert.equal(lock.signal.reason.code, "ERR_LOCK_LOST")
        await assert.rejects(lock.release(), { code: "ERR_LOCK_LOST" })
        await proxy.pass()
        await next.release()
        await over(all)
    })

    test("tryLock and close() with a dead network are bounded", async (t) => {
        const { proxy, far } = await split(t, start, { connect_timeout: 1 })
        proxy.blackhole()
        const begun = performance.now()
        await assert.rejects(far.tryLock(), { code: "ERR_CONNECT" })
        assert.ok(performance.now() - begun < 15_000)
        await proxy.pass()
        await waitFor(async () => {
            await (await far.lock()).release()
            return true
        }, { what: "a lock and its release within connect_timeout" })
        await far.lock()
        const waiting = assert.rejects(far.lock(), { code: "ERR_CLOSED" })
        proxy.blackhole()
        const closing = performance.now()
        await far.close()
        await waiting
        assert.ok(performance.now() - closing < 15_000)
        await proxy.pass()
    })
}

/**
 * For servers with sessions or leases, which close() ends.
 *
 * @param {(t: object) => Promise<object>} start one of support/servers.mjs
 * @param {number} delay milliseconds that everything takes longer, each way
 */
export function testGoodbye (start, delay) {
    test("close() has cleared everything away when it resolves, however slow the answers are", async (t) => {
        const server = await start(t)
        const proxy = await startProxy(server, t)
        const mutex = await opened(t, server.url("foo", { ttl: 120, connect_timeout: 60 }, proxy.port)) // nothing runs out by itself
        await (await mutex.lock()).release()
        proxy.delay(delay)
        await mutex.close()
        assert.deepEqual(await server.admin.traces(), [])
    })
}
