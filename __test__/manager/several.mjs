// Several names at once: all or none.
import { test } from "node:test"
import assert from "node:assert/strict"
import { getEventListeners } from "node:events"
import { waitFor } from "../support/waiting.mjs"
import { startChild } from "../support/children.mjs"
import { aborted, fresh, manager, opened, rejection, watch } from "./world.mjs"

/** Names whose order as text, as ids and as given are three different ones. */
const names = () => {
    const prefix = fresh()
    return [ `${prefix} z`, `${prefix}-a`, `${prefix}ä` ]
}

/** Asks with signals that throw, for one name and several, while the manager opens and when it is open; then takes all that may be held. */
const faultySignals = new URL(`data:text/javascript,${encodeURIComponent(`
    import { LockManager } from ${JSON.stringify(new URL("../../index.mjs", import.meta.url).href)}
    const [ url, ...names ] = process.argv.slice(2)
    const results = [], uncaught = []
    process.on("uncaughtException", ({ message }) => uncaught.push(message))
    const faulty = (where) => {
        const fail = (name) => { if (name === where) throw new Error(name) }
        return {
            get aborted () { return fail("aborted") ?? false },
            addEventListener: () => fail("addEventListener"),
            removeEventListener: () => fail("removeEventListener")
        }
    }
    for (const isOpen of [ false, true ])
        for (const given of [ names[0], names ])
            for (const where of [ "addEventListener", "aborted", "removeEventListener" ]) {
                const locks = new LockManager(url)
                if (isOpen)
                    await locks.open()
                const result = await locks.lock(given, { signal: faulty(where), timeout: 2 ** 30 }).catch((error) => error)
                results.push(result.message ?? "got")
                await result.release?.()
                // In vain unless all is free.
                await (await locks.lock(names)).release()
                await locks.close()
            }
    await new Promise(setImmediate)
    process.send({ name: "results", results, uncaught })
    process.disconnect()
`)}`)

export function several (world) {
    test("several: all are held as one, with tokens by name, and released as one", async (t) => {
        const [ one, other ] = [ manager(t, world), manager(t, world) ]
        const all = names()
        const set = await one.lock([ ...all, all[0] ])
        assert.deepEqual([ ...set.names ].sort(), [ ...all ].sort())
        assert.deepEqual([ ...set.tokens.keys() ], set.names)
        assert.ok([ ...set.tokens.values() ].every((token) => typeof token === "bigint"))
        assert.equal(set.mode, "exclusive")
        assert.equal(set.signal.aborted, false)
        assert.deepEqual(await Promise.all(all.map((name) => other.tryLock(name))), [ null, null, null ])
        assert.equal(set.release(), set.release())
        await set.release()
        assert.equal(set.signal.aborted, false)
        const again = await other.tryLock(all, { shared: true })
        assert.equal(again.mode, "shared")
        await (await one.tryLock(all, { shared: true })).release()
        await again.release()
    })

    test("several: tryLock takes all or none", async (t) => {
        const [ one, other ] = [ manager(t, world), manager(t, world) ]
        const all = names()
        for (const name of all) {
            const lock = await one.lock(name)
            assert.equal(await other.tryLock(all), null)
            for (const rest of all.filter((each) => each !== name))
                await (await one.lock(rest)).release()
            await lock.release()
        }
        await (await other.tryLock(all)).release()
    })

    test("several: whatever the order of the names, nobody waits for each other", async (t) => {
        const managers = [ manager(t, world), manager(t, world), manager(t, world) ]
        const [ a, b, c ] = names()
        let inside = 0
        const orders = [ [ a, b ], [ b, a ], [ c, b, a ], [ b, c ], [ a, c, b ], [ b, b, a ] ]
        await Promise.all(orders.map(async (order, number) => {
            for (let round = 0; round < 3; round++)
                await managers[number % 3].withLock(order, async (set) => {
                    assert.equal(++inside, 1, "all of them need b")
                    assert.equal(set.tokens.size, new Set(order).size)
                    await new Promise(setImmediate)
                    inside--
                })
        }))
    })

    test("several: one timeout and one signal for all, and then none is held", async (t) => {
        const [ one, other ] = [ manager(t, world), manager(t, world) ]
        const all = names()
        await other.open()
        for (const name of all) {
            const lock = await one.lock(name)
            const error = await rejection(other.lock(all, { timeout: 20 }))
            assert.equal(error.code, "ERR_TIMEOUT")
            assert.ok(all.every((each) => error.message.includes(each)), error.message)
            const controller = new AbortController()
            const waiting = other.lock(all, { signal: controller.signal })
            controller.abort("no more")
            assert.equal(await rejection(waiting), "no more")
            assert.equal(await rejection(other.lock(all, { signal: AbortSignal.abort("before") })), "before")
            for (const rest of all.filter((each) => each !== name))
                await (await one.lock(rest)).release()
            await lock.release()
        }
    })

    test("several: no names, and what is no name, reject", async (t) => {
        const locks = manager(t, world)
        assert.equal((await rejection(locks.lock([]))).code, "ERR_INVALID_ARG_VALUE")
        assert.equal((await rejection(locks.lock([ "a", 5 ]))).code, "ERR_INVALID_ARG_TYPE")
        assert.equal((await rejection(locks.lock(new Set([ "a" ])))).code, "ERR_INVALID_ARG_TYPE")
        assert.equal((await rejection(locks.withLock([], () => {}))).code, "ERR_INVALID_ARG_VALUE")
    })

    test("several: close ends what is held and what waits for the rest", async (t) => {
        const [ one, other ] = [ manager(t, world), manager(t, world) ]
        const all = names()
        const set = await one.lock(all)
        const { signal } = set
        const waiting = watch(one.lock(all))
        const rejected = rejection(waiting.promise)
        await one.close()
        assert.equal((await rejected).code, "ERR_CLOSED")
        assert.equal((await aborted(signal)).code, "ERR_CLOSED")
        await set.release()
        await (await other.lock(all)).release()
    })

    test("several: what the code of a signal throws, and when, leaves nothing held", async (t) => {
        const child = await startChild(t, faultySignals, [ world.url(""), ...names() ])
        const { results, uncaught } = await child.message("results", { timeout: 60_000 })
        await child.success()
        assert.deepEqual(results, Array(4).fill([ "addEventListener", "aborted", "got" ]).flat())
        assert.deepEqual([ ...new Set(uncaught) ], [ "removeEventListener" ])
    })

    test("several: one signal for many calls, as they begin and later, is no leak, and what ends one of them lets in none of the others", async (t) => {
        const warnings = []
        const warn = (warning) => warnings.push(warning.message)
        process.on("warning", warn)
        t.after(() => process.off("warning", warn))
        const [ locks, holder ] = [ manager(t, world), manager(t, world) ]
        const all = names()
        const controller = new AbortController()
        const lock = await holder.lock(all[0], { shared: true })
        const calls = Array.from({ length: 20 }, (_, number) => rejection(locks.lock([ all[0] ], { shared: number > 0, signal: controller.signal })))
        await locks.open()
        const later = Array.from({ length: 20 }, () => rejection(locks.lock([ all[0] ], { shared: true, signal: controller.signal })))
        await waitFor(async () => (await locks.query()).pending.length > 0)
        const done = new AbortController()
        for (const given of [ all[1], all.slice(1) ])
            await (await manager(t, world).lock(given, { signal: done.signal })).release()
        const reason = new Error("no more")
        controller.abort(reason)
        for (const error of await Promise.all([ ...calls, ...later ]))
            assert.equal(error, reason)
        await lock.release()
        await (await locks.lock(all)).release()
        await new Promise(setImmediate)
        assert.deepEqual(warnings, [])
        assert.deepEqual(getEventListeners(done.signal, "abort"), [])
    })

    test("several: a signal still ends a call when another call under it is over", async (t) => {
        const [ locks, holder ] = [ manager(t, world), manager(t, world) ]
        const all = names()
        const lock = await holder.lock(all[0])
        const controller = new AbortController()
        const { signal } = controller
        const waiting = rejection(locks.lock([ all[0] ], { signal }))
        await (await locks.lock(all[1], { signal })).release()
        await waitFor(async () => (await locks.query()).pending.some(({ name }) => name === all[0]))
        controller.abort()
        assert.equal((await waiting).name, "AbortError")
        await lock.release()
    })

    if (world.steals) {
        test("several: the loss of one is told, the others stay held until the release", async (t) => {
            const [ one, other ] = [ manager(t, world), manager(t, world) ]
            const all = names()
            const set = await one.lock(all)
            const thief = await other.lock(all[1], { steal: true })
            assert.equal((await aborted(set.signal)).code, "ERR_LOCK_LOST")
            assert.equal(await other.tryLock(all[0]), null)
            await assert.rejects(set.release(), { code: "ERR_LOCK_LOST" })
            await (await other.lock([ all[0], all[2] ])).release()
            await thief.release()
        })

        test("several: the loss of one while the rest is waited for ends the call", async (t) => {
            const [ one, other ] = [ manager(t, world), manager(t, world) ]
            const all = [ `${fresh()}-1`, `${fresh()}-2` ].sort()
            const mutex = await opened(t, world.url(all[1]))
            await mutex.acquire()
            const waiting = rejection(one.lock(all))
            await other.query()
            const thief = await other.lock(all[0], { steal: true })
            assert.equal((await waiting).code, "ERR_LOCK_LOST")
            await mutex.release()
            await (await other.lock(all[1])).release()
            await thief.release()
        })
    }
}
