// Listeners and subscribers: when they are told, in which context, and that nothing they do or throw changes what happens to the lock.
import { test } from "node:test"
import assert from "node:assert/strict"
import { AsyncLocalStorage } from "node:async_hooks"
import diagnostics from "node:diagnostics_channel"
import { startChild } from "../support/children.mjs"
import { freshId, idle, main, opened, rejection, takeOver, two, waiting } from "./world.mjs"

/** Subscribes to parts of the tracing channels until the test ends: `start` of `acquire` is "acquire:start". */
function subscribe (t, parts, listener) {
    for (const part of parts) {
        const own = (message) => listener(message, part)
        diagnostics.subscribe(`tracing:ipc-mutex:${part}`, own)
        t.after(() => diagnostics.unsubscribe(`tracing:ipc-mutex:${part}`, own))
    }
}

const turn = () => new Promise(setImmediate)

export function listeners (world) {
    test("release() in a listener of acquire gives back what was just acquired", async (t) => {
        const [ one, other ] = await two(t, world)
        const released = []
        one.on("acquire", () => released.push(one.release()))
        for (const options of [ undefined, { timeout: 60_000 }, { shared: true } ]) {
            await one.acquire(options)
            await Promise.all(released)
            await takeOver(other)
            await other.release()
        }
        assert.equal(released.length, 3)
        assert.equal((await rejection(one.release())).code, "ERR_NOT_ACQUIRED")
    })

    test("release() in the same step as acquire() gives back what that gets, with options, listeners and without, held by others or not", async (t) => {
        for (const listened of [ false, true ])
            for (const options of [ undefined, { timeout: 60_000 }, { shared: true } ])
                for (const contended of [ false, true ]) {
                    const [ one, other ] = await two(t, world)
                    if (listened)
                        one.on("acquire", () => {})
                    if (contended)
                        await other.acquire()
                    const calls = [ one.acquire(options), one.release() ]
                    if (contended)
                        await other.release()
                    await Promise.all(calls)
                    assert.equal((await rejection(one.release())).code, "ERR_NOT_ACQUIRED")
                    await takeOver(other)
                    await other.release()
                }
    })

    test("a release too many does not take the lock from another flow of the object", async (t) => {
        const [ one, other ] = await two(t, world)
        await other.acquire()
        const flow = one.acquire()
        await waiting(other, 1)
        assert.equal((await rejection(one.release())).code, "ERR_NOT_ACQUIRED")
        await other.release()
        await flow
        assert.equal(await other.tryAcquire(), false)
        await one.release()
    })

    test("a listener added while a bare acquire() waits, or holds, hears of the rest", async (t) => {
        const [ one, other ] = await two(t, world)
        for (const holder of [ other, one ]) {
            const heard = []
            await holder.acquire()
            const granted = one.acquire()
            await waiting(other, 1)
            const listener = (event) => ({ mode }) => heard.push(`${event} ${mode}`)
            one.on("acquire", listener("acquire")).on("release", listener("release"))
            await holder.release()
            await granted
            await one.release()
            await turn()
            one.removeAllListeners()
            assert.equal(heard.filter((event) => event === "acquire exclusive").length, 1, heard.join())
            assert.equal(heard.at(-1), "release exclusive", heard.join())
        }
        await idle(one)
    })

    test("the acquire event comes before the call goes on, also for a listener added behind the call", async (t) => {
        const [ one, other ] = await two(t, world)
        await other.acquire()
        const order = []
        const call = one.lock().then((lock) => {
            order.push("call")
            return lock
        })
        one.on("acquire", () => order.push("event"))
        await waiting(other, 1)
        await other.release()
        await (await call).release()
        assert.deepEqual(order, [ "event", "call" ])
    })

    test("each is told in the context of its own request", async (t) => {
        const [ one, other ] = await two(t, world)
        const storage = new AsyncLocalStorage()
        const told = []
        for (const [ name, mutex ] of Object.entries({ one, other }))
            for (const event of [ "acquire", "release" ])
                mutex.on(event, () => told.push([ name, event, storage.getStore() ]))
        subscribe(t, [ "acquire:asyncStart", "acquire:asyncEnd", "hold:start", "hold:end", "hold:asyncStart", "hold:asyncEnd" ], ({ id, label }, part) => {
            if (id === one.id)
                told.push([ label, part, storage.getStore() ])
        })
        await storage.run("first", () => one.acquire())
        const second = storage.run("second", () => other.lock())
        await waiting(one, 1)
        const before = told.length
        await storage.run("first", () => one.release())
        const lock = await second
        await storage.run("third", () => lock.release())
        await turn()
        const behind = told.slice(before)
        for (const [ name, what, context ] of behind) {
            if (name !== undefined)
                assert.equal(context, name === "one" ? "first" : "second", `${name} ${what}`)
            else if (what.startsWith("acquire:") || what === "hold:start" || what === "hold:end")
                assert.equal(context, "second", what)
            else
                assert.match(context, /first|second/, what)
        }
        assert.equal(behind.filter(([ name ]) => name === undefined).length, 8)
    })

    test("stores that are bound to the start of a span are there at its end", async (t) => {
        if (typeof diagnostics.channel("x").bindStore !== "function")
            return t.skip("this Node.js binds no stores")
        const [ one, other ] = await two(t, world)
        const storage = new AsyncLocalStorage()
        const start = diagnostics.channel("tracing:ipc-mutex:acquire:start")
        start.bindStore(storage, ({ mode }) => `span of ${mode}`)
        t.after(() => start.unbindStore(storage))
        const told = []
        subscribe(t, [ "acquire:asyncEnd", "hold:start", "hold:asyncEnd" ], ({ id }) => id === one.id && told.push(storage.getStore()))
        await other.lock().then(async (lock) => {
            const shared = one.lock({ shared: true })
            await waiting(one, 1)
            told.length = 0
            await lock.release()
            await (await shared).release()
        })
        await turn()
        assert.deepEqual(told.sort(), [ "span of exclusive", "span of shared", "span of shared", "span of shared" ])
    })

    test("the span of a hold ends with its release and with close()", async (t) => {
        const mutex = await opened(t, world.url(freshId()))
        const told = []
        subscribe(t, [ "hold:start", "hold:asyncEnd", "hold:error" ], ({ id }, part) => id === mutex.id && told.push(part))
        await mutex.acquire()
        await mutex.release()
        await mutex.lock({ shared: true })
        await mutex.close()
        await turn()
        assert.deepEqual(told, [ "hold:start", "hold:asyncEnd", "hold:start", "hold:asyncEnd" ])
    })

    test("what listeners throw is uncaught and changes no outcome", async (t) => {
        const child = await startChild(t, new URL(`data:text/javascript,${encodeURIComponent(`
            import { createRequire } from "node:module"
            import diagnostics from "node:diagnostics_channel"
            const [ main, url ] = process.argv.slice(2)
            const Mutex = createRequire("file:///")(main)
            const uncaught = []
            process.on("uncaughtException", ({ message }) => uncaught.push(message))
            const mutex = new Mutex(url), other = new Mutex(url)
            await mutex.open()
            await other.open()
            for (const event of [ "acquire", "release" ])
                mutex.on(event, () => { throw new Error(event) })
            for (const part of [ "acquire:asyncEnd", "hold:start", "hold:asyncEnd" ])
                diagnostics.subscribe("tracing:ipc-mutex:" + part, ({ id }) => { throw new Error(part) })
            const results = [ await mutex.withLock(() => 42) ]
            await mutex.acquire()
            results.push(await mutex.release())
            const lock = await mutex.lock()
            results.push(await lock.release(), await lock.release())
            await new Promise(setImmediate)
            for (let tries = 0; !await other.tryAcquire(); tries++)
                await new Promise((resolve) => setTimeout(resolve, 50))
            await other.release()
            await mutex.close()
            await other.close()
            process.send({ name: "results", results: results.map(String), uncaught })
            process.disconnect()
        `)}`), [ main, world.url(freshId()) ])
        const { results, uncaught } = await child.message("results", { timeout: 60_000 })
        await child.success()
        assert.deepEqual(results, [ "42", "undefined", "undefined", "undefined" ])
        for (const event of [ "acquire", "release" ])
            assert.equal(uncaught.filter((message) => message === event).length, 3, uncaught.join())
    })
}
