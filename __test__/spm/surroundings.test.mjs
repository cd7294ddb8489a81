// What a program or a test runner around the package may put in the place of things, and what must not matter.
import { test } from "node:test"
import assert from "node:assert/strict"
import { startChild } from "../support/children.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { Mutex, main } from "../conformance/world.mjs"

watchLeaks()

const program = (source) => new URL(`data:text/javascript,${encodeURIComponent(`
    import { createRequire } from "node:module"
    const Mutex = createRequire("file:///")(process.argv[2])
    const results = []
    const done = () => {
        process.send({ name: "results", results })
        process.disconnect()
    }
    ${source}
`)}`)

async function results (t, source, options) {
    const child = await startChild(t, program(source), [ main ], options)
    const heard = await child.message("results", { timeout: 60_000 })
    await child.success()
    return heard.results
}

test("timers that stand still, put in place of the real ones once the package is loaded, stop nothing", async (t) => {
    const heard = await results(t, `
        const { setTimeout: real } = globalThis
        const still = () => ({ ref () {}, unref () {} })
        for (const name of [ "setTimeout", "setImmediate", "queueMicrotask", "setInterval" ])
            globalThis[name] = still
        process.nextTick = still
        performance.now = () => 0
        for (const url of [ "spm:x", "mpm:x" ]) {
            const mutex = new Mutex(url), other = new Mutex(url)
            await mutex.open()
            await other.open()
            mutex.on("acquire", () => results.push("acquire"))
            await mutex.acquire()
            results.push(await other.lock({ timeout: 5 }).catch(({ code }) => code))
            await mutex.release()
            results.push(await other.withLock(() => 42))
            await mutex.close()
            await other.close()
        }
        done()
    `)
    assert.deepEqual(heard, [ "acquire", "ERR_TIMEOUT", 42, "acquire", "ERR_TIMEOUT", 42 ])
})

test("a clock that jumps, put in place of the real one, ends no wait of LockManager", async (t) => {
    const heard = await results(t, `
        let time = 0
        const fake = () => time += 1e9
        performance.now = fake
        for (const url of [ "spm:", "mpm:" ]) {
            const locks = new Mutex.LockManager(url)
            const lock = await locks.lock("b")
            const both = locks.lock([ "a", "b" ], { timeout: 60_000 })
            both.catch(() => {})
            await locks.query()
            // A timer that is over at once would be over before this one.
            await new Promise((resolve) => setTimeout(resolve, 1))
            await lock.release()
            await (await both).release()
            results.push("got both")
            await locks.close()
        }
        done()
    `)
    assert.deepEqual(heard, [ "got both", "got both" ])
})

test("with NODE_DEBUG a program does what it does without, and looks for no deadlocks", async (t) => {
    const source = `
        const mutex = new Mutex("spm:x"), other = new Mutex("spm:x")
        await mutex.open()
        await other.open()
        const first = [ mutex.acquire(), mutex.release() ]
        await Promise.all(first)
        await mutex.acquire()
        const second = mutex.acquire()
        const third = other.acquire()
        setTimeout(() => mutex.release(), 20)
        results.push(await second.then(() => "let in", ({ code }) => code))
        await mutex.release()
        await third
        const closing = [ mutex.acquire().catch(({ code }) => results.push(code)), mutex.close() ]
        await other.release()
        await Promise.all(closing)
        await mutex.open()
        const waitsForItself = mutex.withLock(() => mutex.acquire()).catch(({ code }) => results.push(code))
        for (let turn = 0; turn < 10; turn++)
            await new Promise(setImmediate)
        await mutex.close()
        await waitsForItself
        await mutex.open()
        const step = [ mutex.acquire().then(() => results.push("acquired"), ({ code }) => results.push(code)), mutex.close() ]
        await Promise.all(step)
        await other.close()
        done()
    `
    const plain = await results(t, source), debugged = await results(t, source, { env: { NODE_DEBUG: "ipc-mutex" } })
    assert.deepEqual(plain, [ "let in", "ERR_CLOSED", "ERR_CLOSED", "acquired" ])
    assert.deepEqual(debugged, plain)
})

test("a URL of another realm is one by its shape", () => {
    const { href, protocol } = new URL("spm:foreign")
    assert.equal(new Mutex({ href, protocol }).id, "foreign")
})

test("where deadlocks cannot be found, the option is refused", async (t) => {
    const heard = await results(t, `
        for (const runtime of [ "bun", "deno" ]) {
            Object.defineProperty(process.versions, runtime, { value: "1.0.0", configurable: true })
            try {
                new Mutex("spm:x", { detectDeadlocks: true })
            }
            catch ({ code, message }) {
                results.push(code, message)
            }
            new Mutex("spm:x", { detectDeadlocks: false })
            delete process.versions[runtime]
        }
        done()
    `)
    assert.deepEqual([ heard[0], heard[2] ], Array(2).fill("ERR_FEATURE_UNAVAILABLE_ON_PLATFORM"))
    assert.match(heard[1], /"detectDeadlocks" is not available: Bun /)
    assert.match(heard[3], /"detectDeadlocks" is not available: Deno /)
})
