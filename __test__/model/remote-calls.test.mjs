// Walks over the whole API of locks on a server that answers late and in any order. IPC_MUTEX_TEST_STEPS=1000000 walks further,
// IPC_MUTEX_TEST_SEED walks the same way again.
import { restore } from "./manual-timers.mjs"
import { FakeServer } from "./fake-server.mjs"
import { test } from "node:test"
import assert from "node:assert/strict"
import { RemoteCalls } from "./remote-calls.mjs"

const server = new FakeServer()
const { Mutex } = await import("../conformance/world.mjs")
restore()

const steps = Number(process.env.IPC_MUTEX_TEST_STEPS ?? 20_000)
const LENGTH = 1000

test(`rpm: ${steps} random steps let nobody in beside another, and every call settles`, async () => {
    let seed = Number(process.env.IPC_MUTEX_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31))
    const counts = {}
    for (let walked = 0; walked < steps; walked += LENGTH, seed++) {
        const calls = new RemoteCalls(Mutex, server, seed)
        try {
            await calls.walk(LENGTH)
        }
        catch (error) {
            throw new Error(`with IPC_MUTEX_TEST_SEED=${seed} IPC_MUTEX_TEST_STEPS=${LENGTH}, after ${calls.trail()}: ${error.message}`, { cause: error })
        }
        for (const [ name, count ] of Object.entries(calls.counts))
            counts[name] = (counts[name] ?? 0) + count
    }
    if (steps > LENGTH)
        for (const [ name, count ] of Object.entries(counts))
            assert.ok(count > 0, name)
})
