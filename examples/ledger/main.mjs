// The main job: four tellers move money between the accounts of one ledger file, thousands of times, by read, compute and
// write. As processes of a cluster without a lock, with `mpm:`, and as worker threads with `spm:`. Exits with 0 only
// if every total under a lock is exact and no two tellers were at the ledger at once.
import cluster from "node:cluster"
import { once } from "node:events"
import { mkdtemp, rm } from "node:fs/promises"
import os from "node:os"
import path from "node:path"
import { fileURLToPath } from "node:url"
import { Worker } from "node:worker_threads"
// In the primary, loading the package is all it takes to serve the workers' `mpm:` locks.
import "../../index.mjs"
import { TOTAL, create, total } from "./ledger.mjs"
import { overlaps, timeline } from "./report.mjs"

const TELLERS = 4, TRANSFERS = 1_500
const teller = fileURLToPath(new URL("./teller.mjs", import.meta.url))

async function byProcesses (file, url) {
    cluster.setupPrimary({ exec: teller, serialization: "advanced" })
    return Promise.all(Array.from({ length: TELLERS }, async (_, number) => {
        const worker = cluster.fork({ LEDGER_TASK: JSON.stringify({ file, url, number, transfers: TRANSFERS }) })
        const ended = once(worker, "exit")
        const [ visits ] = await once(worker, "message")
        const [ code ] = await ended
        if (code !== 0)
            throw new Error(`teller ${number + 1} ended with exit code ${code}`)
        return visits
    }))
}

async function byThreads (file, url) {
    return Promise.all(Array.from({ length: TELLERS }, async (_, number) => {
        const worker = new Worker(teller, { workerData: { file, url, number, transfers: TRANSFERS } })
        const ended = once(worker, "exit")
        const [ visits ] = await once(worker, "message")
        await ended
        return visits
    }))
}

async function run (title, folder, url, tellers) {
    const file = path.join(folder, `${title.replace(/\W+/g, "-")}.ledger`)
    await create(file)
    const begun = process.hrtime.bigint()
    const visits = await tellers(file, url)
    const seconds = Number(process.hrtime.bigint() - begun) / 1e9
    const sum = await total(file), collisions = overlaps(visits)
    const transfers = TELLERS * TRANSFERS
    console.log(`\n${title}`)
    console.log(`  ${transfers} transfers in ${seconds.toFixed(2)} s (${Math.round(transfers / seconds)} acquire/release pairs per second, start included)`)
    console.log(timeline(visits))
    console.log(`  ${collisions} collisions; total ${sum}, should be ${TOTAL}: ${sum === TOTAL ? "exact" : `off by ${sum - TOTAL}`}`)
    return sum === TOTAL && collisions === 0
}

const folder = await mkdtemp(path.join(os.tmpdir(), "ipc-mutex-"))
try {
    await run("No lock, four processes", folder, undefined, byProcesses)
    const processes = await run("mpm:ledger, four processes of a cluster", folder, "mpm:ledger", byProcesses)
    const threads = await run("spm:ledger, four worker threads", folder, "spm:ledger", byThreads)
    console.log(processes && threads ? "\nBoth locks kept the ledger exact." : "\nA LOCK FAILED.")
    process.exitCode = processes && threads ? 0 : 1
}
finally {
    await rm(folder, { recursive: true, force: true })
}
