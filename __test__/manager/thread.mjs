// A worker thread of the tests, which does with locks of its own manager what it is told.
import { parentPort, workerData } from "node:worker_threads"
import { LockManager, Mutex } from "../../index.mjs"

const locks = new LockManager(workerData.url)
const say = (message) => parentPort.postMessage(message)
let release = () => {}
let mutex

const actions = {
    hold: (name) => locks.request(name, (lock) => {
        lock.signal.addEventListener("abort", () => say(`lost ${lock.signal.reason.code}`))
        say("held")
        return new Promise((resolve) => { release = resolve })
    }).catch(() => {}),
    wait: (name) => locks.request(name, () => say("granted")),
    release: () => release(),
    async acquire (name) {
        mutex = new Mutex(workerData.url + name)
        await mutex.open()
        mutex.on("lost", (error) => say(`lost ${error.code}`))
        await mutex.acquire()
        say("held")
    },
    free: () => mutex.release().then(() => say("freed"), (error) => say(`not freed: ${error.code}`)),
    /** Steals, holds for a moment, and gives back or finds that it was stolen from; also by the lock's word. */
    async steal (name, rounds) {
        const own = new Mutex(workerData.url + name)
        await own.open()
        const flows = [
            async () => {
                const lock = await locks.lock(name, { steal: true })
                await new Promise(setImmediate)
                await lock.release()
            },
            async () => {
                if (await own.tryAcquire())
                    await own.release()
            },
            async () => {
                await own.acquire()
                await own.release()
            }
        ]
        for (let round = 0; round < rounds; round++)
            for (const flow of flows)
                await flow().catch(expectLoss)
        await own.close()
        say("stolen")
    },
    async rob (name, done) {
        const lock = await locks.lock(name, { steal: true })
        release = () => lock.release()
        notify(done)
    },
    giveBack: (done) => release().then(() => notify(done)),
    end: () => locks.close().then(() => parentPort.close())
}

function notify (done) {
    Atomics.store(done, 0, 1)
    Atomics.notify(done, 0)
}

function expectLoss (error) {
    if (error.code !== "ERR_LOCK_LOST")
        throw error
}

parentPort.on("message", ([ what, ...args ]) => actions[what](...args))
say("ready")
