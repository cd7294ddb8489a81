// A process or a worker thread whose calls go by the express lane, and that does in the middle of it what it is told:
//   node laned.mjs <url> <act>, or a Worker with workerData { url, act }
import { parentPort, workerData } from "node:worker_threads"
import { Mutex } from "../../index.mjs"
import { warm, ways } from "./lane.mjs"

const { url, act, ms, isTold } = workerData ?? { url: process.argv[2], act: process.argv[3] }
const say = parentPort === null ? (message) => process.send(message) : (message) => parentPort.postMessage(message)
const heard = () => new Promise((resolve) => (parentPort ?? process).once("message", resolve))
const mutex = new Mutex(url)

function spin (milliseconds) {
    const end = performance.now() + milliseconds
    while (performance.now() < end) ;
}

const ACTS = {
    /** Holds until it is ended. */
    async holding () {
        await mutex.acquire()
        say({ name: "ready", ways })
        setInterval(() => {}, 1000)
    },
    /** Holds until that is over, and releases nevertheless. */
    async robbed () {
        const lock = await mutex.lock()
        const alive = setInterval(() => {}, 1000)
        lock.signal.addEventListener("abort", async () => {
            clearInterval(alive)
            say({ name: "lost", code: lock.signal.reason.code })
            await lock.release().catch((error) => say({ name: "refused", code: error.code }))
            await mutex.close()
            process.disconnect()
        }, { once: true })
        say({ name: "ready", ways: [ ...ways ] })
    },
    /** Asks, and never reads the answer. */
    asking () {
        mutex.acquire()
        say({ name: "ready", ways })
        spin(Infinity)
    },
    /** Asks, computes, and looks then. With `isTold` it waits for a word before it asks. */
    async blocked () {
        if (isTold) {
            say({ name: "warm" })
            await heard()
        }
        const asked = mutex.lock()
        say({ name: "ready", ways: [ ...ways ] })
        spin(ms)
        const lock = await asked
        say({ name: "spun", aborted: lock.signal.aborted })
        await heard()
        await lock.release()
        await mutex.close()
    },
    async exiting () {
        await mutex.acquire()
        process.send({ name: "ready", ways }, () => process.exit(0))
    },
    askingAndExiting () {
        process.send({ name: "ready", ways }, () => {
            mutex.acquire()
            process.exit(0)
        })
    },
    /** Takes and frees the lock so many times, and says whether it was ever in company. */
    async counting () {
        const { inside, rounds } = workerData
        let company = 0
        for (let round = 0; round < rounds; round++) {
            await mutex.acquire()
            if (Atomics.add(inside, 0, 1) !== 0)
                company++
            if (round % 8 === 0)
                await new Promise((resolve) => setImmediate(resolve))
            Atomics.sub(inside, 0, 1)
            const released = mutex.release()
            if (round % 3 !== 0)
                await released
            if (round % 16 === 0)
                await new Promise((resolve) => setTimeout(resolve, 1)) // lets the others in, and the lane take over again
        }
        await mutex.close()
        say({ name: "counted", company, lane: ways.filter((way) => way === "lane").length })
    },
    /** Asks when it is told to, for what somebody else has, and ends when it is told again. */
    async waiting () {
        say({ name: "warm" })
        await heard()
        mutex.acquire()
        say({ name: "ready", ways })
        await heard()
        process.exit(0)
    },
    /** Has nothing more to do. */
    idle () {
        process.send({ name: "ready", ways }, () => process.disconnect())
    }
}

await mutex.open()
await warm(mutex)
await ACTS[act]()
