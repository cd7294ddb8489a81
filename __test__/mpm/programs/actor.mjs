// Does in one thread what a test says, with mutexes and locks by name; knows nothing of where it runs.
import { appendFileSync, existsSync } from "node:fs"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { Worker } from "node:worker_threads"
import { History } from "../../support/history.mjs"

/** @param {() => Promise<Function>} load gives the package's class */
export function actor (load) {
    let Mutex
    const mutexes = new Map(), locks = new Map(), threads = new Map(), frames = []
    let calls = 0

    const deeds = {
        async load () { Mutex ??= await load() },
        async open (name, url, options) {
            await deeds.load()
            mutexes.set(name, new Mutex(url, options))
            await mutexes.get(name).open()
        },
        acquire: (name, options) => mutexes.get(name).acquire(options),
        tryAcquire: (name, options) => mutexes.get(name).tryAcquire(options),
        release: (name) => mutexes.get(name).release(),
        close: (name) => mutexes.get(name).close(),
        async query (name) {
            const { held, pending } = await mutexes.get(name).query()
            // Not every channel carries a bigint and a Date.
            const plain = ({ token, since, ...info }) => ({ ...info, since: since.toJSON(), ...(token && { token: String(token) }) })
            return { held: held.map(plain), pending: pending.map(plain) }
        },
        async lock (name, lock, options) {
            locks.set(lock, await mutexes.get(name).lock(options))
            return String(locks.get(lock).token)
        },
        unlock: (lock) => locks.get(lock).release(),

        /** Opens and closes again and again, and tells how many listeners that left behind. */
        async cycle (url, times) {
            const before = listeners()
            for (let time = 0; time < times; time++) {
                const mutex = new Mutex(url)
                await mutex.open()
                await mutex.acquire()
                await mutex.close()
            }
            return listeners() - before
        },

        /**
         * Many flows that contend for a few locks, and what they saw. `file` keeps it through a SIGKILL. `delay` is how long this thread
         * stood still at most, in milliseconds.
         */
        async contend ({ name, ids, flows, rounds, file }) {
            await deeds.load()
            const history = new History({ file })
            const delay = monitorEventLoopDelay({ resolution: 10 })
            delay.enable()
            await Promise.all(Array.from({ length: flows }, (_, flow) =>
                contend(new Mutex(`mpm:${ids[flow % ids.length]}`), history, `${name}/${flow}`, rounds)))
            history.close()
            delay.disable()
            return { ...history.toJSON(), delay: delay.max / 1e6 }
        },

        /** Says something on the channel as somebody who does not care for the rules; the answers are kept. */
        raw (message) {
            if (frames.length === 0)
                process.on("internalMessage", (heard) => frames.push(heard))
            frames.push({ sent: message })
            process.send(message)
        },
        frames: () => frames,

        /** So many pairs, and how many messages this process sent to its primary meanwhile. */
        async pairs (name, times) {
            const { send } = process
            let sent = 0
            process.send = (...message) => {
                sent++
                return send.apply(process, message)
            }
            for (let time = 0; time < times; time++) {
                await mutexes.get(name).acquire()
                await mutexes.get(name).release()
            }
            process.send = send
            return sent
        },

        /** Asks in all these ways within one turn, and tells in which order they were granted. */
        async rush (ways) {
            const order = []
            await Promise.all(ways.map(async ([ deed, name ], place) => {
                const hold = await mutexes.get(name)[deed]()
                order.push(place)
                await (hold ?? mutexes.get(name)).release()
            }))
            return order
        },

        /** Gives back what it holds, and the message that tells the primary is still on its way for ever. */
        async releaseUntold (name) {
            const { send } = process
            process.send = () => true
            await mutexes.get(name).release()
            process.send = send
        },

        /** Gives back what it holds, and computes on in the same turn until there is such a file. */
        async releaseAndBlock (name, file) {
            await mutexes.get(name).release()
            while (!existsSync(file))
                deeds.block(5)
        },

        /** Writes to a file what becomes of a hold and of a waiting call, for a process that has nobody left to tell. */
        outlive (file, held, waiting) {
            const write = (what) => appendFileSync(file, `${JSON.stringify(what)}\n`)
            process.removeAllListeners("disconnect")
            mutexes.get(held).on("lost", (error) => write([ "lost", error.code ]))
            mutexes.get(waiting).acquire().catch((error) => write([ "waiting", error.code ]))
            process.once("disconnect", () => setImmediate(async () => {
                await mutexes.get(held).release().catch((error) => write([ "release", error.code ]))
                await mutexes.get(held).acquire().catch((error) => write([ "acquire", error.code ]))
                await mutexes.get(held).close()
                await mutexes.get(held).open().catch((error) => write([ "open", error.code ]))
                process.exit(0)
            }))
        },

        async thread (name) {
            const worker = new Worker(new URL("./thread.mjs", import.meta.url))
            threads.set(name, worker)
            const answers = new Map()
            worker.answers = answers
            worker.on("message", ({ call, ...answer }) => answers.get(call)(answer))
            worker.on("error", () => {})
        },
        async within (name, deed, ...args) {
            const call = ++calls, worker = threads.get(name)
            worker.postMessage({ call, deed, args })
            const { error, result } = await new Promise((resolve) => worker.answers.set(call, resolve))
            if (error !== undefined)
                throw Object.assign(new Error(error.message), error)
            return result
        },
        terminate: async (name) => void await threads.get(name).terminate(),

        block (milliseconds) {
            Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
        },
        disconnect: () => process.disconnect(),
        exit: (code) => process.exit(code)
    }

    return async ({ call, deed, args }) => {
        try {
            return { call, result: await deeds[deed](...args) }
        }
        catch (error) {
            return { call, error: { code: error.code, message: error.message } }
        }
    }
}

async function contend (mutex, history, owner, rounds) {
    await mutex.open()
    for (let round = 0; round < rounds; round++) {
        const way = round % 8
        const options = way === 1 ? { shared: true } : way === 2 ? { timeout: round % 7 } : undefined
        history.ask(mutex.id, owner, { mode: options?.shared ? "shared" : "exclusive" })
        try {
            // Both ways to have it, and a hold that others can fall into.
            if (options === undefined && way !== 3)
                await mutex.acquire()
            const lock = options === undefined && way !== 3 ? undefined : await mutex.lock(options)
            history.grant(mutex.id, owner, { token: lock?.token })
            if (way > 3 || options?.shared)
                await new Promise((resolve) => setImmediate(resolve))
            history.release(mutex.id, owner)
            await (lock ?? mutex).release()
        }
        catch (error) {
            if (error.code !== "ERR_TIMEOUT")
                throw error
            history.cancel(mutex.id, owner)
        }
    }
    await mutex.close()
}

const EVENTS = [ "internalMessage", "message", "disconnect", "exit", "beforeExit" ]
const listeners = () => EVENTS.reduce((sum, event) => sum + process.listenerCount(event), 0)
