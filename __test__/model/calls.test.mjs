// Walks over the whole API of locks in this process, with code that calls back in wherever it can. IPC_MUTEX_TEST_STEPS=1000000 walks further,
// IPC_MUTEX_TEST_SEED walks the same way again.
import { restore } from "./manual-timers.mjs"
import { test } from "node:test"
import assert from "node:assert/strict"
import { watchLeaks } from "../support/leaks.mjs"
import { Mutex } from "../conformance/world.mjs"
import { Calls } from "./calls.mjs"

watchLeaks()

const steps = Number(process.env.IPC_MUTEX_TEST_STEPS ?? 20_000)
/** A walk is so long; then the next begins with objects that nobody has listened to yet. */
const LENGTH = 1000

// The timers are taken with the package.
restore()

for (const model of [ "spm", "mpm" ])
    test(`${model}: ${steps} random steps, and code that calls back in, do what the reference says`, async () => {
        let seed = Number(process.env.IPC_MUTEX_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31))
        const counts = {}
        for (let walked = 0; walked < steps; walked += LENGTH, seed = seed + 1) {
            const calls = new Calls(Mutex, (id) => `${model}:${id}`, seed)
            try {
                await calls.walk(LENGTH)
                for (const [ name, count ] of Object.entries(calls.counts))
                    counts[name] = (counts[name] ?? 0) + count
            }
            catch (error) {
                throw new Error(`with IPC_MUTEX_TEST_SEED=${seed} IPC_MUTEX_TEST_STEPS=${LENGTH}, after ${calls.trail()}: ${error.message}`, { cause: error })
            }
        }
        if (steps > LENGTH)
            for (const [ name, count ] of Object.entries(counts))
                assert.ok(count > 0, name)
    })
