// The cluster of a torture: a primary that works too, and workers, one of which is killed, stopped or cut off now and then.
//   node cluster.mjs <settings as JSON>
import cluster from "node:cluster"
import { appendFileSync } from "node:fs"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { randomness } from "../model/reference.mjs"
import { now } from "../support/history.mjs"

const settings = JSON.parse(process.argv[2])
const WORKERS = 3

cluster.setupPrimary({ exec: fileURLToPath(new URL("./client.mjs", import.meta.url)), args: [ JSON.stringify(settings) ] })
const draw = randomness(settings.seed)
const random = () => draw(1_000_000) / 1_000_000
let stopping = false
let number = 0
/** The workers that have come so far that a fault can find them at work. */
const atWork = new Set()

function fork () {
    number++
    cluster.setupPrimary({ args: [ JSON.stringify({ ...settings, seed: settings.seed + number, threads: number % 2 === 0 }) ] })
    cluster.fork()
}

/** One that is gone need not hear it. */
const tell = (worker, message) => worker.send(message, () => {})

for (let each = 0; each < WORKERS; each++)
    fork()
cluster.on("exit", (worker) => {
    atWork.delete(worker)
    if (!stopping)
        fork()
})
// A cluster worker drops what it is told before it listens.
cluster.on("message", (worker, message) => {
    if (message !== "listening")
        return
    atWork.add(worker)
    if (stopping)
        tell(worker, "stop")
})
process.on("message", (message) => {
    if (message === "stop")
        stopping = true
    for (const worker of Object.values(cluster.workers))
        tell(worker, message)
})
// It evaluates for as long as it works.
const working = import("./client.mjs")
while (!stopping) {
    await sleep(300 + random() * 1200)
    const workers = [ ...atWork ]
    const worker = workers[Math.floor(random() * workers.length)]
    const kind = random()
    if (worker === undefined || stopping || settings.isCalm)
        continue
    const from = now(), { pid } = worker.process
    if (kind < 0.3) {
        worker.process.kill("SIGKILL")
        note({ kind: "gone", pid, at: String(from) })
    }
    else if (kind < 0.6) {
        worker.process.kill("SIGSTOP")
        await sleep(random() * 1500)
        worker.process.kill("SIGCONT")
    }
    else if (kind < 0.7)
        worker.disconnect()
    else if (kind < 0.8 && worker.isConnected()) {
        // Others get what it holds, before it can hear of that: it stands still, or computes.
        const ms = 200 + random() * 1300, computes = random() < 0.5
        if (computes)
            tell(worker, { block: ms })
        else
            worker.process.kill("SIGSTOP")
        await sleep(100)
        if (worker.isConnected())
            worker.process.disconnect()
        await sleep(ms)
        if (!computes)
            worker.process.kill("SIGCONT")
    }
    note({ kind: "fault", name: "a worker is killed, stopped or cut off", at: String(from), to: String(now()) })
}
await working

function note (line) {
    appendFileSync(`${settings.history}-cluster.log`, `${JSON.stringify(line)}\n`)
}
