// A program that uses one lock as it is told, for tests with several processes:
//   node contender.mjs <url> [ "loop" ]
// Told { do: "lock" | "acquire" | "release" | "spin" | "exit" | "close", ... }, it answers with messages; with "loop" it takes and
// frees the lock until it is told to stop, and answers with its history.
import { Mutex } from "../../index.mjs"
import { History } from "./history.mjs"

const [ url, mode ] = process.argv.slice(2)
const mutex = new Mutex(url, { label: `contender ${process.pid}` })
mutex.on("lost", (error) => process.send({ name: "lost", code: error?.code ?? error?.error?.code, at: process.hrtime.bigint() }))
const history = new History()
let lock

const actions = {
    async lock ({ shared }) {
        lock = await mutex.lock({ shared })
        lock.signal.addEventListener("abort", () => process.send({ name: "aborted", code: lock.signal.reason.code }), { once: true })
        process.send({ name: "held", token: lock.token, at: process.hrtime.bigint() })
    },
    async acquire () {
        await mutex.acquire()
        process.send("held")
    },
    async release () {
        const at = process.hrtime.bigint()
        await (lock ?? mutex).release()
        lock = undefined
        process.send({ name: "released", at })
    },
    /** Computes without yielding. */
    async spin ({ ms }) {
        process.send("spinning")
        await new Promise((resolve) => setImmediate(resolve))
        const end = performance.now() + ms
        while (performance.now() < end) ;
        process.send({ name: "spun", aborted: lock?.signal.aborted })
    },
    async exit () { process.exit(0) },
    async close () {
        await mutex.close()
        process.disconnect()
    }
}

await mutex.open()
if (mode === "loop")
    await loop()
else {
    process.on("message", (message) => actions[message.do](message).catch((error) =>
        process.send({ name: "failed", code: error.code, message: error.message })))
    process.send("ready")
}

async function loop () {
    let stopped = false
    process.on("message", () => { stopped = true })
    process.send("ready")
    const owner = `p${process.pid}`
    while (!stopped) {
        history.ask(mutex.id, owner)
        const held = await mutex.lock()
        history.grant(mutex.id, owner, { token: held.token })
        await new Promise((resolve) => setTimeout(resolve, 1))
        history.release(mutex.id, owner)
        await held.release()
    }
    await mutex.close()
    // A long history does not fit into the channel at once, and what has not left yet would be lost with it.
    await new Promise((resolve) => process.send({ name: "history", history: history.toJSON() }, resolve))
    process.disconnect()
}
