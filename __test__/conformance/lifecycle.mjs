// When a mutex keeps the process alive, and what a process leaves behind.
import { test } from "node:test"
import assert from "node:assert/strict"
import { startChild } from "../support/children.mjs"
import { LONGEST_END, ended, freshId, main, opened, waiting } from "./world.mjs"

/** A program that opens two mutexes; its last words are how long the package took to give back what it had. */
const program = (source) => new URL(`data:text/javascript,${encodeURIComponent(`
    import { createRequire } from "node:module"
    import { writeSync } from "node:fs"
    const [ main, url ] = process.argv.slice(2)
    const Mutex = createRequire("file:///")(main)
    const mutex = new Mutex(url), other = new Mutex(url)
    let begun
    process.on("exit", () => { begun = performance.now() })
    await mutex.open()
    await other.open()
    process.on("exit", () => writeSync(1, "ended in " + (performance.now() - begun) + " ms"))
    ${source}
`)}`)

/** How long the package took at the end of a program that has ended, in milliseconds. */
function endOf ({ stdout }) {
    const [ , milliseconds ] = /^ended in (.*) ms$/.exec(stdout)
    ended(Number(milliseconds))
    return Number(milliseconds)
}

const PATIENT = { timeout: 60_000 }

export function lifecycle (world) {
    const started = (t, source) => startChild(t, program(source), [ main, world.url(freshId()) ])
    const success = async (child) => {
        await child.success(PATIENT)
        endOf(child)
    }

    test("an idle open mutex, held or not, does not keep the process alive", async (t) => {
        for (const source of [ "", "await mutex.acquire()", "await mutex.lock(); await other.query()" ])
            await success(await started(t, source))
    })

    test("a pending acquire keeps the process alive", async (t) => {
        const child = await started(t, `
            await mutex.acquire()
            setTimeout(() => mutex.release(), 300).unref()
            await other.acquire()
            process.send("granted")
        `)
        await child.message("granted", PATIENT)
        await success(child)
    })

    test("a pending withLock keeps the process alive, whatever its function waits for", async (t) => {
        const child = await started(t, `
            setTimeout(() => process.send("over"), 300).unref()
            await mutex.withLock(() => new Promise((resolve) => setTimeout(resolve, 400).unref()))
        `)
        await child.message("over", PATIENT)
        await success(child)
    })

    test("process.exit in the middle of everything ends the process with its own code", async (t) => {
        const child = await started(t, `
            await mutex.acquire()
            other.acquire()
            mutex.lock({ shared: true })
            setTimeout(() => process.exit(7), 20)
        `)
        assert.deepEqual(await child.exit(PATIENT), { code: 7, signal: null })
        endOf(child)
    })

    test("process.exit while close() is under way leaves nothing behind", async (t) => {
        for (let round = 0; round < 6; round++) {
            const child = await started(t, `
                const lock = await mutex.lock({ shared: true })
                lock.release().catch(() => {})
                for (const each of [ mutex, other ])
                    each.close().catch(() => {})
                setTimeout(() => process.exit(7), ${round * 2})
            `)
            assert.deepEqual(await child.exit(PATIENT), { code: 7, signal: null })
            endOf(child)
        }
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
                await child.message("held", PATIENT)
                const granted = mutex.acquire()
                await waiting(mutex, 1)
                const begun = performance.now()
                await child.send("go")
                await granted
                const spent = performance.now() - begun
                await child.exit(PATIENT)
                // less than the rest of any lease; a process that has no time left leaves its lock to that
                assert.ok(spent < 14_000 || endOf(child) >= LONGEST_END, `${spent} ms, although the lease would last much longer`)
                endOf(child)
                await mutex.release()
            })
    }
}
