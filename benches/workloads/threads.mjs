// One lock, two worker threads: each release hands it to the other one.
import { once } from "node:events"
import { MessageChannel, Worker, isMainThread, parentPort, workerData } from "node:worker_threads"
import { fileURLToPath } from "node:url"
import { now } from "../harness/clock.mjs"
import { connector } from "../harness/connector.mjs"
import { Overlap } from "../harness/exclusion.mjs"
import { percentile } from "../harness/statistics.mjs"

const INSIDE = 0, OWNER = 1, READY = 2, OVER = 3, ASKING = 3
const WARM_UP = 2_000

/** @returns nanoseconds from the call of release() in one thread to the end of acquire() in the other */
export async function threads ({ contender, target, count }) {
    const shared = { state: new Int32Array(new SharedArrayBuffer(24)), left: new Float64Array(new SharedArrayBuffer(8)) }
    const { port1, port2 } = new MessageChannel()
    const start = (number, port) => new Worker(fileURLToPath(import.meta.url),
        { workerData: { ...shared, contender, target, count, number, port }, transferList: [ port ] })
    const workers = [ start(1, port1), start(2, port2) ]
    const results = await Promise.all(workers.map((worker) => once(worker, "message")))
    await Promise.all(workers.map((worker) => worker.terminate()))
    const samples = results.flatMap(([ times ]) => [ ...times ])
    return { p50: percentile(samples, 0.5), p99: percentile(samples, 0.99) }
}

async function contend ({ state, left, contender, target, count, number, port }) {
    const client = await (await connector(contender))({ ...target, port, first: number === 1 })
    const lock = await client.lock("bench-threads")
    Atomics.add(state, READY, 1)
    while (Atomics.load(state, READY) < 2)
        await new Promise(setImmediate)
    const times = []
    // Who holds lets go when the other one has asked: else a thread that the system lets run alone would have the lock to itself meanwhile.
    const mine = ASKING + number, others = ASKING + 3 - number
    while (Atomics.load(state, OVER) === 0) {
        const granted = lock.acquire()
        Atomics.store(state, mine, 1)
        Atomics.notify(state, mine)
        await granted
        const arrived = now()
        Atomics.store(state, mine, 0)
        if (Atomics.add(state, INSIDE, 1) !== 0)
            throw new Overlap("two threads")
        if (state[OWNER] !== number && state[OWNER] !== 0)
            times.push(arrived - left[0])
        if (times.length === count + WARM_UP)
            Atomics.store(state, OVER, 1)
        while (Atomics.load(state, others) === 0 && Atomics.load(state, OVER) === 0)
            Atomics.wait(state, others, 0, 1)
        state[OWNER] = number
        Atomics.sub(state, INSIDE, 1)
        left[0] = now()
        await lock.release()
    }
    parentPort.postMessage(Float64Array.from(times.slice(WARM_UP)))
    port.close()
}

if (!isMainThread && workerData?.state !== undefined)
    await contend(workerData)
