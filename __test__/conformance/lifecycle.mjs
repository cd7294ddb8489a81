// When a mutex keeps the process alive, and what a process leaves behind.
import { test } from "node:test"
import assert from "node:assert/strict"
import { startChild } from "../support/children.mjs"
import { freshId, main, opened, waiting } from "./world.mjs"

const program = (source) => new URL(`data:text/javascript,${encodeURIComponent(`
    import { createRequire } from "node:module"
    const [ main, url ] = process.argv.slice(2)
    const Mutex = createRequire("file:///")(main)
    const mutex = new Mutex(url), other = new Mutex(url)
    await mutex.open()
    await other.open()
    ${source}
`)}`)

export function lifecycle (world) {
    const run = async (t, source) => (await startChild(t, program(source), [ main, world.url(freshId()) ])).success()

    test("an idle open mutex, held or not, does not keep the process alive", async (t) => {
        await run(t, "")
        await run(t, "await mutex.acquire()")
        await run(t, "await mutex.lock(); await other.query()")
    })

    test("a pending acquire keeps the process alive", async (t) => {
        const child = await startChild(t, program(`
            await mutex.acquire()
            setTimeout(() => mutex.release(), 300).unref()
            await other.acquire()
            process.send("granted")
        `), [ main, world.url(freshId()) ])
        await child.message("granted")
        await child.success()
    })

    test("a pending withLock keeps the process alive, whatever its function waits for", async (t) => {
        const child = await startChild(t, program(`
            setTimeout(() => process.send("over"), 300).unref()
            await mutex.withLock(() => new Promise((resolve) => setTimeout(resolve, 400).unref()))
        `), [ main, world.url(freshId()) ])
        await child.message("over")
        await child.success()
    })

    test("process.exit in the middle of everything ends the process with its own code", async (t) => {
        const child = await startChild(t, program(`
            await mutex.acquire()
            other.acquire()
            mutex.lock({ shared: true })
            setTimeout(() => process.exit(7), 20)
        `), [ main, world.url(freshId()) ])
        assert.deepEqual(await child.exit(), { code: 7, signal: null })
    })

    if (world.processes) {
        for (const end of [ "process.exit(0)", "process.exitCode = 0", "process.on('uncaughtException', () => process.exit(0)); throw new Error('x')" ])
            test(`a process that ends while holding frees its lock at once: ${end}`, async (t) => {
                const url = world.url(freshId())
                const mutex = await opened(t, url)
                const child = await startChild(t, program(`
                    await mutex.acquire()
                    process.send("held")
                    process.once("message", () => { process.disconnect(); ${end} })
                `), [ main, url ])
                await child.message("held")
                const granted = mutex.acquire()
                await waiting(mutex, 1)
                const begun = process.hrtime.bigint()
                child.send("go")
                await granted
                const spent = Number(process.hrtime.bigint() - begun) / 1e6
                assert.ok(spent < 3000, `${spent} ms, although the lease would last much longer`)
                await mutex.release()
            })
    }
}
