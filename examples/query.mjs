// query() tells who holds a lock and who waits for it, in order.
//
//     node examples/query.mjs [url]
import Mutex from "ipc-mutex"
import { setTimeout as pause } from "node:timers/promises"

const url = process.argv[2] ?? "spm:query"
const worker = new Mutex(url, { label: "nightly report" }), other = new Mutex(url, { label: "backup" })
await worker.open()
await other.open()

const lock = await worker.lock()
const waiting = other.lock()
let seen = await worker.query()
while (seen.pending.length === 0) {               // on a server the request is on its way for a moment
    await pause(10)
    seen = await worker.query()
}
for (const { label, mode, pid, thread, since, token } of seen.held)
    console.log(`held by ${label} (${mode}), process ${pid}, thread ${thread}, since ${since.toISOString()}, token ${token}`)
for (const { label, mode } of seen.pending)
    console.log(`waiting: ${label} (${mode})`)

await lock.release()
await (await waiting).release()
await worker.close()
await other.close()

// Prints:
//   held by nightly report (exclusive), process …, thread 0, since …, token …
//   waiting: backup (exclusive)
