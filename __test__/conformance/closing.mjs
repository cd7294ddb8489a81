// close() beside everything else: a call that it overtakes says so, and nothing survives.
import { test } from "node:test"
import assert from "node:assert/strict"
import diagnostics from "node:diagnostics_channel"
import { Mutex, freshId, idle, opened, rejection, takeOver, waiting } from "./world.mjs"

/** Every way to get the lock: what it resolves to says whether the caller believes in it. */
const ENTRIES = {
    "acquire with options": (mutex) => mutex.acquire({ timeout: 60_000 }),
    "shared acquire": (mutex) => mutex.acquire({ shared: true }),
    tryAcquire: (mutex) => mutex.tryAcquire(),
    lock: (mutex) => mutex.lock(),
    "shared lock": (mutex) => mutex.lock({ shared: true }),
    tryLock: (mutex) => mutex.tryLock(),
    withLock: (mutex) => mutex.withLock(() => assert.fail("the function was started"))
}

/** The call was overtaken by a close(): it rejects, or gives a handle that says so. */
async function overtaken (name, call) {
    const result = await call.then((value) => ({ value }), (error) => ({ error }))
    if (result.error !== undefined)
        return assert.equal(result.error.code, "ERR_CLOSED", `${name}: ${result.error.stack}`)
    assert.equal(result.value?.signal?.aborted, true, `${name} resolved as if it had the lock`)
    assert.equal(result.value.signal.reason.code, "ERR_CLOSED")
    await result.value.release()
}

/** A mutex that the test itself closes. */
async function closable (world, url) {
    const mutex = new Mutex(url)
    await mutex.open()
    return mutex
}

/** Somebody listens to all tracing channels. @returns {() => void} */
function subscribed () {
    const channels = [ "start", "end", "asyncStart", "asyncEnd", "error" ].map((part) => `tracing:ipc-mutex:acquire:${part}`)
    const listener = () => {}
    for (const channel of channels)
        diagnostics.subscribe(channel, listener)
    return () => channels.forEach((channel) => diagnostics.unsubscribe(channel, listener))
}

export function closing (world) {
    test("a call and close() in one step: the call rejects, the lock is free, and nothing is left for the next open()", async (t) => {
        for (const [ name, call ] of Object.entries(ENTRIES)) {
            const url = world.url(freshId())
            const mutex = await closable(world, url), other = await opened(t, url)
            const calls = [ overtaken(name, call(mutex)), mutex.close() ]
            await Promise.all(calls)
            await takeOver(other)
            await other.release()
            await mutex.open()
            assert.equal((await rejection(mutex.release())).code, "ERR_NOT_ACQUIRED", name)
            await mutex.acquire()
            await mutex.release()
            await idle(other)
            await mutex.close()
        }
    })

    test("acquire() of a free lock and close() in one step: what the call says does not depend on who listens", async (t) => {
        const outcomes = new Set()
        const listen = { nobody: () => {}, event: (mutex) => { mutex.on("acquire", () => {}) }, tracing: subscribed }
        for (const [ name, begin ] of Object.entries(listen)) {
            for (const detectDeadlocks of [ false, true ]) {
                const url = world.url(freshId())
                const mutex = new Mutex(url, { detectDeadlocks }), other = await opened(t, url)
                await mutex.open()
                const end = begin(mutex)
                const [ call, closed ] = await Promise.allSettled([ mutex.acquire(), mutex.close() ])
                outcomes.add(call.reason?.code ?? call.status)
                assert.equal(closed.status, "fulfilled", `${name}, ${detectDeadlocks}`)
                await takeOver(other)
                await other.release()
                end?.()
            }
        }
        assert.equal(outcomes.size, 1, [ ...outcomes ].join())
    })

    test("a release by another that grants, and close() in the same step", async (t) => {
        for (const [ name, call ] of Object.entries({ ...ENTRIES, "bare acquire": (mutex) => mutex.acquire() })) {
            if (name.startsWith("try"))
                continue
            const url = world.url(freshId())
            const mutex = await closable(world, url), other = await opened(t, url)
            await other.acquire()
            const result = overtaken(name, call(mutex))
            await waiting(other, 1)
            await Promise.all([ other.release(), mutex.close(), result ])
            await takeOver(other)
            await other.release()
        }
    })

    test("close() in a listener of acquire, or in a subscriber of the tracing channels", async (t) => {
        const parts = [ "acquire:start", "acquire:end", "acquire:asyncStart", "acquire:asyncEnd", "hold:start", "hold:end" ]
        const channels = parts.map((part) => `tracing:ipc-mutex:${part}`)
        for (const where of [ "listener", ...channels ]) {
            for (const [ name, call ] of Object.entries(ENTRIES)) {
                const url = world.url(freshId())
                const mutex = await closable(world, url), other = await opened(t, url)
                let closed
                const close = () => { closed ??= mutex.close() }
                const subscriber = ({ id }) => id === mutex.id && close()
                if (where === "listener")
                    mutex.once("acquire", close)
                else
                    diagnostics.subscribe(where, subscriber)
                await overtaken(`${name} at ${where}`, call(mutex))
                diagnostics.unsubscribe(where, subscriber)
                await closed
                await takeOver(other)
                await other.release()
            }
        }
    })

    test("lock.signal tells of close(), whenever it is looked at first", async () => {
        const mutex = await closable(world, world.url(freshId()))
        const early = await mutex.lock({ shared: true }), late = await mutex.lock({ shared: true })
        const { signal } = early
        const closed = mutex.close()
        assert.equal(signal.aborted, true)
        assert.equal(late.signal.aborted, true)
        assert.deepEqual([ signal.reason.code, late.signal.reason ], [ "ERR_CLOSED", signal.reason ])
        await closed
        await Promise.all([ early.release(), late.release() ])
    })

    test("objects that loop and are shut down: no section runs unprotected and untold", async (t) => {
        const url = world.url(freshId())
        const count = world.model === "rpm" ? 3 : 20
        const inside = new Set()
        const alone = () => assert.ok([ ...inside ].filter((lock) => !lock.signal.aborted).length <= 1, "two believe in the lock")
        for (let round = 0; round < count; round++) {
            const mutexes = await Promise.all(Array.from({ length: 4 }, () => closable(world, url)))
            const loops = mutexes.map(async (mutex) => {
                for (;;) {
                    const error = await mutex.withLock(async (lock) => {
                        inside.add(lock)
                        alone()
                        await new Promise(setImmediate)
                        alone()
                        inside.delete(lock)
                    }).then(() => undefined, (reason) => reason)
                    if (error !== undefined)
                        return error
                }
            })
            for (const mutex of mutexes) {
                await new Promise(setImmediate)
                await mutex.close()
            }
            for (const error of await Promise.all(loops))
                assert.match(error.code, /ERR_CLOSED|ERR_NOT_OPEN/, error.stack)
        }
        await idle(await opened(t, url))
    })
}
