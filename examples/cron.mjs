// A cron job on three machines that runs once. Each machine's crontab has the same line:
//
//     0 3 * * *  IPC_MUTEX_URL=rpm+redis://x:secret@db.example/nightly-report node cron.mjs
//
// Whoever comes first has the lock and does the work; the others find it taken and go home. The lock is kept for a while
// after the work, longer than the machines' clocks may differ: a machine that is late must not find it free again.
//
// The same without a program of one's own, `sleep` being that while:
//
//     0 3 * * *  ipc-mutex exec -n -E 0 -- sh -c './nightly-report; sleep 60'
import Mutex from "ipc-mutex"
import { hostname } from "node:os"
import { setTimeout as sleep } from "node:timers/promises"

const url = process.argv[2] ?? process.env.IPC_MUTEX_URL ?? "rpm+redis://localhost/nightly-report"
const keep = Number(process.argv[3] ?? 60) // seconds

const mutex = new Mutex(url, { label: "nightly report" })
await mutex.open()
const lock = await mutex.tryLock()
if (lock === null)
    console.log("another machine does it")
else {
    const begun = performance.now()
    await report(lock.signal)
    await sleep(Math.max(0, keep * 1000 - (performance.now() - begun)))
    await lock.release()
}
await mutex.close()

/** The work itself. Between its steps it looks whether it still has the lock. */
async function report (signal) {
    console.log(`${hostname()} writes the report`)
    for (let page = 1; page <= 3; page++) {
        signal.throwIfAborted()
        await sleep(10)
    }
}

// Prints:
//   … writes the report
