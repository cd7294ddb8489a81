// A worker thread of the tests: does with `spm:` locks what its workerData says, records it, and may end in any way.
import { createRequire } from "node:module"
import { parentPort, workerData } from "node:worker_threads"
import { History } from "../support/history.mjs"

const { main, ids, owner, rounds, until, end } = workerData
const Mutex = createRequire(import.meta.url)(main)
const mutexes = await Promise.all(ids.map(async (id) => {
    const mutex = new Mutex(`spm:${id}`)
    await mutex.open()
    return mutex
}))

const ENDS = {
    holding: async () => {
        await mutexes[0].acquire()
        parentPort.postMessage("ready")
        setInterval(() => {}, 1000)
    },
    waiting: () => {
        mutexes[0].acquire().then(() => parentPort.postMessage("granted"))
        mutexes[0].lock().then(() => parentPort.postMessage("granted"))
        parentPort.postMessage("ready")
    },
    spinning: async () => {
        await mutexes[0].acquire()
        parentPort.postMessage("ready")
        for (;;)
            ;
    },
    returning: async () => {
        await mutexes[0].acquire()
        parentPort.postMessage("ready")
    },
    throwing: async () => {
        await mutexes[0].lock()
        parentPort.postMessage("ready")
        setImmediate(() => { throw new Error("on purpose") })
    },
    exiting: async () => {
        await mutexes[0].acquire()
        parentPort.postMessage("ready")
        setImmediate(() => process.exit(3))
    }
}

/** Many grants, recorded; bare `acquire()` and handles in turn. So many rounds, and more until so many threads were killed. */
async function contend () {
    const history = new History()
    for (let round = 0; round < rounds || Atomics.load(until.kills, 0) < until.least; round++) {
        const mutex = mutexes[round % mutexes.length]
        history.ask(mutex.id, owner)
        if (round % 2 === 0) {
            await mutex.acquire()
            history.grant(mutex.id, owner)
            history.release(mutex.id, owner)
            await mutex.release()
        }
        else {
            const lock = await mutex.lock()
            history.grant(mutex.id, owner, { token: lock.token })
            history.release(mutex.id, owner)
            await lock.release()
        }
    }
    parentPort.postMessage(history.toJSON())
}

await (end === undefined ? contend() : ENDS[end]())
