// What the specification of the Web Locks API (https://w3c.github.io/web-locks/) promises, apart from windows, frames and origins. The subjects are
// those of web-platform-tests: acquire, held, ifAvailable, lock-attributes, mode-exclusive, mode-mixed, mode-shared, query, query-empty,
// query-ordering, resource-names, signal; steal and workers have files of their own.
import { test } from "node:test"
import assert from "node:assert/strict"
import { startChild } from "../support/children.mjs"
import { ids } from "./special.mjs"
import { aborted, fresh, manager, opened, rejection, watch } from "./world.mjs"

const lateCallback = new URL(`data:text/javascript,${encodeURIComponent(`
    import { LockManager } from ${JSON.stringify(new URL("../../index.mjs", import.meta.url).href)}
    const [ url, name ] = process.argv.slice(2)
    const [ one, other ] = [ new LockManager(url), new LockManager(url) ]
    await new Promise((called) => {
        one.request(name, (lock) => {
            called()
            return new Promise((resolve) => lock.signal.addEventListener("abort", () => setImmediate(resolve)))
        }).catch(() => {})
    })
    await one.close()
    await new Promise(setImmediate)
    await new Promise(setImmediate)
    await other.withLock(name, () => {})
    process.send("done")
    process.disconnect()
`)}`)

const never = () => new Promise(() => {})

/** A promise, and what settles it. */
function deferred () {
    const it = {}
    it.promise = new Promise((resolve, reject) => Object.assign(it, { resolve, reject }))
    return it
}

/** Requests a lock and holds it until `release()` of what this resolves to. */
function hold (locks, name, options = {}) {
    return new Promise((resolve, reject) => {
        const until = deferred()
        const done = locks.request(name, options, (lock) => {
            resolve({ lock, done, release: () => (until.resolve(), done) })
            return until.promise
        })
        done.catch(reject)
    })
}

const isError = (name) => (error) => error instanceof DOMException && error.name === name

export function webLocks (world) {
    test("acquire: wrong arguments reject, with a TypeError", async (t) => {
        const locks = manager(t, world)
        for (const args of [ [], [ "a" ], [ "a", {} ], [ "a", undefined ], [ "a", {}, undefined ], [ "a", {}, {} ], [ "a", 5, () => {} ],
            [ Symbol("a"), () => {} ],
            [ "a", { mode: "foo" }, () => {} ], [ "a", { mode: null }, () => {} ], [ "a", { mode: "SHARED" }, () => {} ],
            [ "a", { signal: {} }, () => {} ], [ "a", { signal: null }, () => {} ] ])
            await assert.rejects(locks.request(...args), TypeError)
    })

    test("acquire: options may be undefined, null, or have more members than are known", async (t) => {
        const locks = manager(t, world)
        for (const options of [ undefined, null, {}, { mode: undefined, signal: undefined, other: 1 }, () => {} ])
            assert.equal(await locks.request(fresh(), options, (lock) => lock.mode), "exclusive")
    })

    test("acquire: the callback is called later, with nothing as its this, and its result is that of the request", async (t) => {
        const locks = manager(t, world)
        const name = fresh()
        let isCalled = false
        const requested = locks.request(name, function (...args) {
            isCalled = true
            assert.equal(this, undefined)
            assert.equal(args.length, 1)
            return 42
        })
        assert.equal(isCalled, false)
        assert.ok(requested instanceof Promise)
        assert.equal(await requested, 42)
        assert.equal(await locks.request(name, async () => "later"), "later")
        const mistake = new Error("mine")
        assert.equal(await rejection(locks.request(name, () => { throw mistake })), mistake)
        assert.equal(await rejection(locks.request(name, () => Promise.reject(mistake))), mistake)
        assert.equal(await rejection(locks.request(name, () => ({ then () { throw mistake } }))), mistake)
        assert.equal(await locks.request(name, () => "free again"), "free again")
    })

    test("held: a lock is held until the promise of the callback has settled", async (t) => {
        const locks = manager(t, world)
        const name = fresh()
        const first = await hold(locks, name)
        const second = watch(locks.request(name, () => "second"))
        assert.equal(await locks.request(name, { ifAvailable: true }, (lock) => lock), null)
        assert.equal(second.settled, false)
        await first.release()
        assert.equal(await second.promise, "second")
    })

    test("held: a callback that fails releases, and the next one gets the lock", async (t) => {
        const locks = manager(t, world)
        const name = fresh()
        const [ called, fails ] = [ deferred(), deferred() ]
        let hasFailed = false
        const first = rejection(locks.request(name, () => {
            called.resolve()
            return fails.promise
        }))
        const second = locks.request(name, () => {
            assert.equal(hasFailed, true)
            return "second"
        })
        await called.promise
        hasFailed = true
        fails.reject(new Error("gone"))
        assert.match((await first).message, /gone/)
        assert.equal(await second, "second")
    })

    test("lock-attributes: name and mode, also when it is over", async (t) => {
        const locks = manager(t, world)
        const name = fresh()
        for (const mode of [ "exclusive", "shared" ]) {
            const lock = await locks.request(name, { mode }, (held) => {
                assert.equal(held.name, name)
                assert.equal(held.mode, mode)
                return held
            })
            assert.equal(lock.name, name)
            assert.equal(lock.mode, mode)
        }
    })

    test("ifAvailable: the lock if it is free, else null and no wait", async (t) => {
        const locks = manager(t, world)
        const name = fresh()
        assert.equal(await locks.request(name, { ifAvailable: true }, (lock) => lock.name), name)
        const first = await hold(locks, name)
        assert.equal(await locks.request(name, { ifAvailable: true }, async (lock) => lock), null)
        await assert.rejects(locks.request(name, { ifAvailable: true }, () => { throw new Error("mine") }), /mine/)
        assert.equal(await locks.request(fresh(), { ifAvailable: true }, (lock) => lock !== null), true)
        assert.equal(await locks.request(name, { ifAvailable: true, mode: "shared" }, (lock) => lock), null)
        await first.release()
        const reader = await hold(locks, name, { ifAvailable: true, mode: "shared" })
        assert.equal(await locks.request(name, { ifAvailable: true, mode: "shared" }, (lock) => lock.mode), "shared")
        assert.equal(await locks.request(name, { ifAvailable: true }, (lock) => lock), null)
        await reader.release()
    })

    test("mode-exclusive: granted one after the other, in order, each name for itself", async (t) => {
        const locks = manager(t, world)
        const [ a, b ] = [ fresh(), fresh() ]
        const order = []
        const until = deferred()
        const first = locks.request(a, () => until.promise)
        const rest = [ 1, 2, 3 ].map((number) => locks.request(a, () => { order.push(number) }))
        await locks.request(b, () => { order.push("other") })
        until.resolve()
        await Promise.all([ first, ...rest ])
        assert.deepEqual(order, [ "other", 1, 2, 3 ])
    })

    test("mode-shared: granted together", async (t) => {
        const locks = manager(t, world)
        const name = fresh()
        const all = await Promise.all([ 1, 2, 3 ].map(() => hold(locks, name, { mode: "shared" })))
        const { held } = await locks.query()
        assert.deepEqual(held.filter((lock) => lock.name === name).map(({ mode }) => mode), [ "shared", "shared", "shared" ])
        await Promise.all(all.map((one) => one.release()))
    })

    test("mode-mixed: an exclusive request waits for readers, and later readers wait for it", async (t) => {
        const locks = manager(t, world)
        const name = fresh()
        const order = []
        const readers = await Promise.all([ 1, 2 ].map(() => hold(locks, name, { mode: "shared" })))
        const writer = locks.request(name, () => { order.push("writer") })
        const late = locks.request(name, { mode: "shared" }, () => { order.push("late reader") })
        await readers[0].release()
        assert.deepEqual(order, [])
        await readers[1].release()
        await Promise.all([ writer, late ])
        assert.deepEqual(order, [ "writer", "late reader" ])
    })

    test("query-empty: of names that nobody uses there is nothing", async (t) => {
        const locks = manager(t, world)
        const name = fresh()
        await locks.request(name, () => {})
        const { held, pending } = await locks.query()
        assert.ok([ ...held, ...pending ].every((lock) => lock.name !== name))
    })

    test("query: held and pending, with name, mode and client", async (t) => {
        const locks = manager(t, world)
        const [ a, b ] = [ fresh(), `${fresh()} ü` ]
        const [ first, reader ] = await Promise.all([ hold(locks, a), hold(locks, b, { mode: "shared" }) ])
        const waiting = [ locks.request(a, { mode: "shared" }, () => {}), locks.request(b, () => {}) ]
        const seen = await locks.query()
        const ours = (list) => list.filter(({ name }) => name === a || name === b).map(({ name, mode }) => [ name, mode ])
        assert.deepEqual(ours(seen.held).sort(), [ [ a, "exclusive" ], [ b, "shared" ] ].sort())
        assert.deepEqual(ours(seen.pending).sort(), [ [ a, "shared" ], [ b, "exclusive" ] ].sort())
        const clients = new Set([ ...seen.held, ...seen.pending ].filter(({ name }) => name === a || name === b).map(({ clientId }) => clientId))
        assert.equal(clients.size, 1)
        assert.match([ ...clients ][0], new RegExp(`(^|/)${process.pid}/0$`))
        await Promise.all([ first.release(), reader.release(), ...waiting ])
    })

    test("query-ordering: pending requests of a name stand in their order", async (t) => {
        const locks = manager(t, world)
        const name = fresh()
        const first = await hold(locks, name)
        const modes = [ "shared", "exclusive", "exclusive", "shared", "exclusive" ]
        const waiting = modes.map((mode) => locks.request(name, { mode }, () => {}))
        const { pending } = await locks.query()
        assert.deepEqual(pending.filter((one) => one.name === name).map(({ mode }) => mode), modes)
        await Promise.all([ first.release(), ...waiting ])
    })

    test("resource-names: any text, also an empty one, but none that begins with a hyphen", async (t) => {
        const locks = manager(t, world)
        for (const [ name ] of ids.filter(([ text ]) => !text.startsWith("-")))
            assert.equal(await locks.request(name, (lock) => lock.name), name)
        for (const name of [ "-", "-foo" ])
            await assert.rejects(locks.request(name, () => {}), isError("NotSupportedError"))
        assert.equal(await locks.request({ toString: () => "from an object" }, (lock) => lock.name), "from an object")
        assert.equal(await locks.request(null, (lock) => lock.name), "null")
    })

    test("combinations that make no sense are not supported", async (t) => {
        const locks = manager(t, world)
        const { signal } = new AbortController()
        for (const options of [ { steal: true, ifAvailable: true }, { steal: true, mode: "shared" }, { signal, steal: true }, { signal, ifAvailable: true } ])
            await assert.rejects(locks.request(fresh(), options, () => {}), isError("NotSupportedError"))
    })

    test("signal: one that has aborted rejects at once, with its reason", async (t) => {
        const locks = manager(t, world)
        const fail = () => assert.fail("must not be called")
        await assert.rejects(locks.request(fresh(), { signal: AbortSignal.abort() }, fail), isError("AbortError"))
        for (const reason of [ "text", 0, new Error("mine") ])
            assert.equal(await rejection(locks.request(fresh(), { signal: AbortSignal.abort(reason) }, fail)), reason)
    })

    test("signal: ends a wait, and nobody behind it is held up", async (t) => {
        const locks = manager(t, world)
        const name = fresh()
        const first = await hold(locks, name, { mode: "shared" })
        const controller = new AbortController()
        const writer = locks.request(name, { signal: controller.signal }, () => assert.fail("must not be called"))
        const reader = locks.request(name, { mode: "shared" }, () => "reader")
        controller.abort()
        await assert.rejects(writer, isError("AbortError"))
        assert.equal(await reader, "reader")
        await first.release()
        const { held, pending } = await locks.query()
        assert.ok([ ...held, ...pending ].every((one) => one.name !== name))
    })

    test("signal: in the step of the request, and between the grant and the callback, it rejects and gives back", async (t) => {
        const locks = manager(t, world)
        const name = fresh()
        const fail = () => assert.fail("must not be called")
        const soon = new AbortController()
        const requested = locks.request(name, { signal: soon.signal }, fail)
        soon.abort("at once")
        assert.equal(await rejection(requested), "at once")
        const mutex = await opened(t, world.url(name))
        await mutex.acquire()
        const between = new AbortController()
        const waiting = locks.request(name, { signal: between.signal }, fail)
        // Told when the state is whole, before the call goes on.
        locks.once("acquire", () => between.abort("in between"))
        await mutex.release()
        assert.equal(await rejection(waiting), "in between")
        assert.equal(await locks.request(name, { ifAvailable: true }, (lock) => lock?.name), name)
    })

    test("signal: once the callback was called it changes nothing", async (t) => {
        const locks = manager(t, world)
        const controller = new AbortController()
        assert.equal(await locks.request(fresh(), { signal: controller.signal }, async () => {
            controller.abort()
            await new Promise(setImmediate)
            return "done"
        }), "done")
    })

    test("a callback that ends when its request has long been rejected changes nothing: the program ends when it is done", async (t) => {
        const child = await startChild(t, lateCallback, [ world.url(""), fresh() ])
        await child.message("done", { timeout: 60_000 })
        await child.success()
    })

    test("the callback hears by lock.signal that the manager closes, and the request rejects while it still runs", async (t) => {
        const locks = manager(t, world)
        const name = fresh()
        const called = deferred()
        let heard
        const requested = locks.request(name, (lock) => {
            heard = aborted(lock.signal)
            called.resolve()
            return never()
        })
        const waiting = rejection(locks.request(name, () => assert.fail("must not be called")))
        await called.promise
        const rejected = rejection(requested)
        await locks.close()
        assert.equal((await heard).code, "ERR_CLOSED")
        assert.ok(isError("AbortError")(await rejected))
        assert.ok(isError("AbortError")(await waiting))
        assert.equal((await rejected).cause.code, "ERR_CLOSED")
    })
}
