// What a mutex costs over time: nothing. The engine's own one-time costs (code, tables) come at any moment and are up to a quarter of a megabyte,
// so the work is done several times: a leak has its share of every time.
import { test } from "node:test"
import assert from "node:assert/strict"
import { startChild } from "../support/children.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { main } from "../conformance/world.mjs"

watchLeaks()

/** How often the work is done after the first time. */
const TIMES = 3

const program = (source) => new URL(`data:text/javascript,${encodeURIComponent(`
    import { createRequire } from "node:module"
    const Mutex = createRequire("file:///")(process.argv[2])
    const used = async () => {
        for (let round = 0; round < 3; round++) {
            gc()
            // What was found to be garbage is given back in a turn of its own.
            await new Promise(setImmediate)
        }
        const { heapUsed, external } = process.memoryUsage()
        return heapUsed + external
    }
    const measure = async (work) => {
        await work()
        const before = await used()
        for (let time = 0; time < ${TIMES}; time++)
            await work()
        process.send({ name: "grown", bytes: (await used() - before) / ${TIMES} })
        process.disconnect()
    }
    ${source}
`)}`)

async function grown (t, source) {
    const child = await startChild(t, program(source), [ main ], { execArgv: [ "--expose-gc" ] })
    const { bytes } = await child.message("grown", { timeout: 240_000 })
    await child.success()
    return bytes
}

test("20,000 pairs, contended and not, with handles, timeouts and signals, leave memory flat", async (t) => {
    const bytes = await grown(t, `
        const mutex = new Mutex("spm:memory")
        await mutex.open()
        const { signal } = new AbortController()
        await measure(async () => {
            for (let round = 0; round < 20_000; round++) {
                await mutex.acquire()
                const waiters = round % 10 === 0 ? [ mutex.acquire(), mutex.lock({ signal, timeout: 60_000 }) ] : []
                await mutex.release()
                if (waiters.length > 0) {
                    await waiters[0]
                    await mutex.release()
                    await (await waiters[1]).release()
                }
            }
        })
        await mutex.close()
    `)
    assert.ok(bytes < 300_000, `${bytes} bytes more each time after the first`)
})

test("300 open/close cycles of many ids leave memory flat", async (t) => {
    const bytes = await grown(t, `
        await measure(async () => {
            for (let round = 0; round < 300; round++) {
                const mutexes = Array.from({ length: 20 }, (_, number) => new Mutex("spm:memory-" + number + "-" + round))
                for (const mutex of mutexes) {
                    await mutex.open()
                    await mutex.acquire()
                }
                for (const mutex of mutexes)
                    await mutex.close()
            }
        })
    `)
    assert.ok(bytes < 300_000, `${bytes} bytes more each time after the first`)
})
