// A leader among ten web processes: all of them serve, one of them also sends the statistics every half hour. When it ends, or is
// cut off, the next one takes over.
//
//     IPC_MUTEX_URL=rpm+redis://x:secret@db.example/statistics node leader.mjs
//
// One process that runs this file: it asks for the lock and goes on serving; whoever has the lock leads.
import Mutex from "ipc-mutex"
import { setTimeout as sleep } from "node:timers/promises"

const url = process.argv[2] ?? process.env.IPC_MUTEX_URL ?? "rpm+redis://localhost/statistics"
const period = Number(process.argv[3] ?? 30 * 60) // seconds

const mutex = new Mutex(url, { label: "statistics" })
const stop = new AbortController()
for (const name of [ "SIGINT", "SIGTERM" ])
    process.once(name, () => stop.abort(new Error(name)))

console.log(`${process.pid} serves`) // here the web server would listen
await mutex.open()
while (!stop.signal.aborted)
    try {
        const lock = await mutex.lock({ signal: stop.signal })
        try {
            await lead(AbortSignal.any?.([ stop.signal, lock.signal ]) ?? either(stop.signal, lock.signal))
        }
        finally {
            // Given back at once, so that the next leader need not wait for the end of a lease; a lost one is gone already.
            await lock.release().catch(() => {})
        }
    }
    catch (error) {
        if (!stop.signal.aborted)
            console.log(`${process.pid} leads no longer: ${error.message}`)
        // A server that refuses is asked again, but not in haste.
        await sleep(1000, undefined, { signal: stop.signal }).catch(() => {})
    }
await mutex.close()

/** What only one process does, until the signal aborts. */
async function lead (signal) {
    console.log(`${process.pid} leads`)
    for (;;) {
        await sleep(period * 1000, undefined, { signal })
        console.log(`${process.pid} sends the statistics`)
    }
}

/** AbortSignal.any() for Node.js 18. */
function either (...signals) {
    const controller = new AbortController()
    for (const signal of signals) {
        if (signal.aborted)
            controller.abort(signal.reason)
        signal.addEventListener("abort", () => controller.abort(signal.reason), { once: true })
    }
    return controller.signal
}
