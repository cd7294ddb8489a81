// One signal for many: what waits under it goes together, and none of it gets in because another one goes.
import { test } from "node:test"
import assert from "node:assert/strict"
import { freshId, idle, opened, rejection, takeOver, waiting, watch } from "./world.mjs"

const WAYS = {
    lock: (mutex, options) => mutex.lock(options),
    acquire: (mutex, options) => mutex.acquire(options),
    withLock: (mutex, options) => mutex.withLock(options, () => assert.fail("the function was started"))
}

export function signals (world) {
    for (const [ way, call ] of Object.entries(WAYS))
        test(`${way}: calls of one signal are all withdrawn, in whatever order they stand in the queue`, async (t) => {
            const url = world.url(freshId())
            const [ one, other ] = [ await opened(t, url), await opened(t, url) ]
            for (const modes of [ [ false, true ], [ true, false ], [ false, false ], [ false, true, true, false, true ] ])
                for (const held of [ true, false ]) {
                    const holder = await one.lock({ shared: held })
                    const controller = new AbortController(), reason = new Error("stop")
                    // Those before the first exclusive one are let in beside a shared holder.
                    const waits = held ? modes.slice(modes.indexOf(false)) : modes
                    const calls = []
                    for (const [ place, shared ] of waits.entries()) {
                        calls.push(rejection(call(place % 2 ? one : other, { shared, signal: controller.signal })))
                        await waiting(one, place + 1)
                    }
                    controller.abort(reason)
                    for (const error of await Promise.all(calls))
                        assert.equal(error, reason)
                    await waiting(one, 0)
                    await holder.release()
                    await takeOver(other)
                    await other.release()
                }
            await idle(one)
        })

    test("those of another signal and of none stay in the queue, in their order", async (t) => {
        const url = world.url(freshId())
        const [ one, other ] = [ await opened(t, url), await opened(t, url) ]
        const holder = await one.lock({ shared: true })
        const controller = new AbortController(), { signal } = controller
        const order = []
        const calls = [ { signal }, { shared: true }, { shared: true, signal }, {}, { signal }, { timeout: 60_000 } ].map((options) => ({ options }))
        for (const [ place, each ] of calls.entries()) {
            each.call = watch(other.lock(each.options))
            each.call.promise.then(() => order.push(place), () => {})
            await waiting(one, place + 1)
        }
        controller.abort()
        for (const { options, call } of calls)
            if (options.signal !== undefined)
                assert.equal((await rejection(call.promise)).name, "AbortError")
        await (await calls[1].call.promise).release()
        assert.equal(calls[3].call.settled, false)
        await holder.release()
        await (await calls[3].call.promise).release()
        await (await calls[5].call.promise).release()
        assert.deepEqual(order, [ 1, 3, 5 ])
    })

    test("one signal over several locks withdraws from all of them", async (t) => {
        const urls = Array.from({ length: 3 }, () => world.url(freshId()))
        const holders = await Promise.all(urls.map((url) => opened(t, url))), others = await Promise.all(urls.map((url) => opened(t, url)))
        await Promise.all(holders.map((mutex) => mutex.acquire()))
        const controller = new AbortController()
        const calls = others.map((mutex) => rejection(mutex.lock({ signal: controller.signal })))
        await Promise.all(holders.map((mutex) => waiting(mutex, 1)))
        controller.abort()
        await Promise.all(calls)
        await Promise.all(holders.map((mutex) => mutex.release()))
        for (const mutex of others)
            await takeOver(mutex)
    })

    test("a listener of the signal that asks, releases and closes", async (t) => {
        const url = world.url(freshId())
        const [ one, other, third ] = [ await opened(t, url), await opened(t, url), await opened(t, url) ]
        const holder = await one.lock()
        const controller = new AbortController()
        let asked
        const react = () => {
            asked = third.lock()
            holder.release().catch(() => {})
            other.close().catch(() => {})
        }
        controller.signal.addEventListener("abort", react)
        const calls = [ rejection(other.lock({ signal: controller.signal })), rejection(other.acquire({ shared: true, signal: controller.signal })) ]
        await waiting(one, 2)
        controller.abort()
        await Promise.all(calls)
        await (await asked).release()
        await idle(one)
    })

    test("a signal is known by its shape", async (t) => {
        const mutex = await opened(t, world.url(freshId()))
        await mutex.acquire()
        const listeners = new Set()
        const signal = {
            aborted: false, reason: undefined,
            addEventListener: (name, listener) => listeners.add(listener),
            removeEventListener: (name, listener) => listeners.delete(listener)
        }
        const call = rejection(mutex.lock({ signal }))
        await waiting(mutex, 1)
        signal.aborted = true
        for (const listener of listeners)
            listener()
        assert.equal((await call).name, "AbortError")
        await mutex.release()
        await mutex.acquire({ signal: { ...signal, aborted: false } })
        await mutex.release()
    })

    test("what a signal's own code throws is the reason for which the call rejects", async (t) => {
        const mutex = await opened(t, world.url(freshId()))
        const lock = await mutex.lock()
        for (const thrown of [ new Error("of the signal"), undefined ]) {
            const expected = thrown ?? { name: "AbortError" }
            const fail = () => { throw thrown }
            const none = () => {}
            await assert.rejects(mutex.lock({ signal: { aborted: false, addEventListener: fail, removeEventListener: none } }), expected)
            let tell
            const signal = { aborted: false, addEventListener: (name, listener) => { tell = listener }, removeEventListener: none }
            Object.defineProperty(signal, "reason", { get: fail })
            const calls = [ rejection(mutex.lock({ signal })), rejection(mutex.acquire({ signal })) ]
            await waiting(mutex, 2)
            signal.aborted = true
            tell()
            for (const error of await Promise.all(calls))
                assert.equal(thrown ?? error.name, thrown === undefined ? "AbortError" : error)
            await waiting(mutex, 0)
        }
        await lock.release()
        await takeOver(mutex)
        await mutex.release()
    })
}
