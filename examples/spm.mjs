// One process with worker threads: three threads count in shared memory, by read, wait and write.
//
//     node examples/spm.mjs
import Mutex from "ipc-mutex"
import { once } from "node:events"
import { fileURLToPath } from "node:url"
import { setTimeout as pause } from "node:timers/promises"
import { Worker, isMainThread, workerData } from "node:worker_threads"

async function count (counter, mutex) {
    for (let i = 0; i < 50; i++) {
        await mutex?.acquire()
        const read = Atomics.load(counter, 0)
        await pause(1)
        Atomics.store(counter, 0, read + 1)
        await mutex?.release()
    }
}

if (isMainThread) {
    for (const locked of [ false, true ]) {
        const counter = new Int32Array(new SharedArrayBuffer(4))
        const start = () => new Worker(fileURLToPath(import.meta.url), { workerData: { counter, locked } })
        await Promise.all([ start(), start(), start() ].map((worker) => once(worker, "exit")))
        console.log(locked ? `with the lock: ${counter[0]}` : `without a lock, 150 would be right: ${counter[0]}`)
    }
}
else {
    const { counter, locked } = workerData
    const mutex = new Mutex("spm:counter")
    await mutex.open()
    await count(counter, locked ? mutex : undefined)
    await mutex.close()
}

// Prints:
//   without a lock, 150 would be right: …
//   with the lock: 150
