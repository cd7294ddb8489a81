// Tracing in Node's own terms: two tracing channels of node:diagnostics_channel, for all mutexes of the thread. They cost nothing
// while nobody listens.
//
//     node examples/tracing.mjs
import Mutex from "ipc-mutex"
import { subscribe } from "node:diagnostics_channel"
import { setTimeout as pause } from "node:timers/promises"

// Node.js 19.9 and newer: tracingChannel("ipc-mutex:acquire").subscribe({ asyncEnd }). These names work in all versions.
subscribe("tracing:ipc-mutex:acquire:asyncEnd", ({ model, id, mode, waitTime, error }) =>
    console.log(`${model}:${id} ${mode} ${error === undefined ? "acquired" : error.code} after ${Math.round(waitTime)} ms`))
subscribe("tracing:ipc-mutex:hold:asyncEnd", ({ model, id, holdTime }) =>
    console.log(`${model}:${id} held for ${Math.round(holdTime)} ms`))

const mutex = new Mutex("spm:tracing")
await mutex.open()
await mutex.withLock(async () => {
    await mutex.acquire({ timeout: 60 }).catch(() => {})
    await pause(60)
})
await mutex.close()

// Prints:
//   spm:tracing exclusive acquired after … ms
//   spm:tracing exclusive ERR_TIMEOUT after … ms
//   spm:tracing held for … ms
