// A child program that does with one mutex what its parent says: messages `{ say, do, options }`, answered by `{ name: say, ... }`.
// Arguments: the package's main file, the lock's URL.
import { createRequire } from "node:module"

const [ main, url ] = process.argv.slice(2)
const Mutex = createRequire(import.meta.url)(main)
const mutex = new Mutex(url)
let lock

const deeds = {
    open: () => mutex.open(),
    async lock (options) {
        lock = await mutex.lock(options)
        const lost = () => process.send({ name: "lost", code: lock.signal.reason.code })
        if (lock.signal.aborted) // lost before anybody could listen
            lost()
        lock.signal.addEventListener("abort", lost)
        return { token: lock.token }
    },
    release: () => lock.release(),
    close: () => mutex.close(),
    aborted: async () => ({ aborted: lock.signal.aborted }),
    /** Stops the event loop for so long, and tells at once whether the hold is still there. */
    async block (milliseconds) {
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
        return { aborted: lock.signal.aborted }
    },
    exit: async (code) => process.exit(code),
    /** Leaves in good order: the channel to the parent is the last thing that keeps the process alive. */
    leave: async () => process.disconnect()
}

process.on("message", async ({ say, do: deed, options }) => {
    let answer
    try {
        answer = { ...await deeds[deed](options) }
    }
    catch (error) {
        answer = { error: { code: error.code, message: error.message } }
    }
    if (process.connected)
        process.send({ name: say, ...answer })
})
process.send("ready")
