// Walks over the whole API in several threads and processes at once, for the same locks: the primary of a cluster or a plain process, its workers and
// their threads. The primary's process judges what all of them believed, and says how often what took place.
//   node live-walk.mjs <spm|mpm|lpm> <steps of each> <seed> [<query of the URLs>]
import { restore } from "./manual-timers.mjs"
import assert from "node:assert/strict"
import cluster from "node:cluster"
import { once } from "node:events"
import { isMainThread, parentPort, threadId, workerData, Worker } from "node:worker_threads"
import { History, check } from "../support/history.mjs"
import { RemoteCalls } from "./remote-calls.mjs"

const { LiveServer } = await import("./live-server.mjs")
const { Mutex } = await import("../conformance/world.mjs")
restore()

const LENGTH = 1000
const [ model, steps, first, query = "" ] = workerData?.order ?? process.argv.slice(2)
const url = (id) => `${model}:${id}${query}`
const name = `${process.pid}-${threadId}`

let unfinished
process.on("exit", (code) => {
    if (code !== 0 || unfinished !== undefined)
        console.error(`${name} has ended with ${code}: ${unfinished?.trail() ?? "between two walks"}`)
})

/** What this thread saw. */
async function walk (seed) {
    const server = new LiveServer(name)
    const counts = {}
    for (let walked = 0; walked < Number(steps); walked += LENGTH, seed++) {
        const calls = new RemoteCalls(Mutex, server, seed, url)
        try {
            unfinished = calls
            await calls.walk(LENGTH)
            unfinished = undefined
        }
        catch (error) {
            throw new Error(`${name}, with seed ${seed}, after ${calls.trail()}: ${error.message}`, { cause: error })
        }
        for (const [ what, count ] of Object.entries(calls.counts))
            counts[what] = (counts[what] ?? 0) + count
    }
    return { counts, history: server.history.toJSON() }
}

/** What this thread and those below it saw. */
async function walkAll () {
    const others = isMainThread ? [ thread(1), thread(2) ] : []
    if (cluster.isPrimary && isMainThread && model === "mpm")
        others.push(worker(), worker())
    const mine = await walk(Number(first))
    return [ mine, ...(await Promise.all(others)).flat() ]
}

/** Each walks on its own way. */
const below = (number) => [ model, steps, String(Number(first) + number * 1_000_000), query ]

async function thread (number) {
    const worker = new Worker(new URL(import.meta.url), { workerData: { order: below(number) } })
    const [ [ seen ] ] = await Promise.all([ once(worker, "message"), once(worker, "exit") ])
    return seen
}

let workers = 0

async function worker () {
    cluster.setupPrimary({ args: below(10 * ++workers) })
    const forked = cluster.fork()
    const [ [ seen ], [ code ] ] = await Promise.all([ once(forked, "message"), once(forked, "exit") ])
    assert.equal(code, 0)
    return seen
}

const seen = await walkAll()
if (!isMainThread)
    parentPort.postMessage(seen)
else if (cluster.isWorker)
    process.send(seen, () => process.disconnect())
else {
    const { grants } = check(seen.map(({ history }) => History.from(history)), { order: "none", tokens: true })
    for (const id of [ "remote-0", "remote-1" ]) {
        const mutex = new Mutex(url(id))
        await mutex.open()
        assert.deepEqual(await mutex.query(), { held: [], pending: [] })
        await mutex.close()
    }
    const counts = {}
    for (const each of seen)
        for (const [ what, count ] of Object.entries(each.counts))
            counts[what] = (counts[what] ?? 0) + count
    console.log(JSON.stringify({ walkers: seen.length, believed: grants, ...counts }))
}
