// A client of the torture: several flows that ask, hold, release, cancel, close and reopen at random, and record what they believe.
//   node client.mjs <settings as JSON>
// Settings: { target, urls, flows, seed, history, register, ttl, threads, isCalm, timed }. Says "listening" once it hears its parent, who sends
// "stop" (finish what is under way and leave) and { block: ms } (compute for so long without yielding). Without a parent it goes on for a moment,
// and leaves.
import { parentPort, Worker, workerData, isMainThread } from "node:worker_threads"
import { writeSync, openSync } from "node:fs"
import { setTimeout as sleep } from "node:timers/promises"
import { Mutex } from "../../index.mjs"
import { History, now } from "../support/history.mjs"
import { randomness } from "../model/reference.mjs"
import { Register, Use } from "./guarded.mjs"
import { Named } from "./named.mjs"

const settings = isMainThread ? JSON.parse(process.argv[2]) : workerData
const name = `${process.pid}${isMainThread ? "" : "t"}`
const history = new History({ file: `${settings.history}-${name}` })
const register = new Register(settings.register)
/** Calls that took long, losses, and errors that nobody announced, a line each. */
const log = openSync(`${settings.history}-${name}.log`, "a")
const say = (kind, details) => writeSync(log, `${JSON.stringify({ kind, at: String(now()), ...details })}\n`)

/** How long a client that was cut off from its parent goes on (milliseconds). */
const ORPHANED = 2000

/** How often a holder looks at its signal (milliseconds), and how late one may be before this thread counts as having stood still
 * (nanoseconds). */
const LOOK = 20, STANDSTILL = 250_000_000n

/**
 * Holds that the server itself ended early, by mistake, which nobody can know before it says so: etcd before 3.4.31 and 3.5.13, where a leader
 * that was stopped revokes leases when it goes on (etcd #15247). docs/etcd.md announces it. They count as over so long before the news
 * (nanoseconds); where times are not judged, from their beginning.
 */
const REVOKED = settings.target === "etcd" ? /its key is gone|etcd lease of this process has ended/ : /^$/
const NEWS = settings.timed ? 300_000_000n : 2n ** 62n

let stopping = false
let tick = now()
/** When this thread last noticed that it had stood still. */
let stoodAt = 0n
setInterval(() => {
    const before = tick
    tick = now()
    if (tick - before > STANDSTILL)
        stoodAt = tick
}, LOOK).unref()

/** Answers that a server under attack may give; everything else is a fault. */
const EXPECTED = new Set([ "ERR_TIMEOUT", "ERR_CONNECT", "ERR_LOCK_LOST", "ERR_CLOSED", "ERR_SERVER", "ERR_AUTH", "ERR_PRIMARY" ])

/** One signal for many calls, as a program's shutdown has it; aborted now and then. */
let shutdown = new AbortController()
setInterval(() => {
    shutdown.abort(new Error("shutdown"))
    shutdown = new AbortController()
}, 400).unref()

class Flow {
    constructor (number) {
        this.number = number
        this.owner = `${name}.${number}`
        this.grants = 0
        const draw = randomness(settings.seed + 7919 * number + (isMainThread ? 0 : 104_729))
        this.random = () => draw(1_000_000) / 1_000_000
        this.mutexes = new Map()
    }

    pick (list) {
        return list[Math.floor(this.random() * list.length)]
    }

    async run () {
        // However slow the machine is, a client that is told to leave has held something.
        while (!stopping || (this.grants === 0 && process.connected)) {
            const url = this.pick(settings.urls)
            try {
                await this.step(await this.opened(url))
            }
            catch (error) {
                this.failed(error)
                await sleep(50)
            }
            if (this.random() < 0.02)
                await this.close(url)
        }
        for (const url of [ ...this.mutexes.keys() ])
            await this.close(url)
    }

    failed (error) {
        const code = error?.code ?? error?.name
        if (!EXPECTED.has(code) && error?.name !== "TimeoutError" && error?.message !== "shutdown")
            say("unexpected", { code, message: error?.message, stack: error?.stack })
    }

    async opened (url) {
        let mutex = this.mutexes.get(url)
        if (mutex === undefined) {
            // Every other flow knows its locks by name.
            mutex = new (this.number % 2 === 1 ? Named : Mutex)(url, { label: this.owner })
            mutex.on("error", () => {})
            await this.timed("open", 30_000, mutex.open())
            this.mutexes.set(url, mutex)
        }
        return mutex
    }

    async close (url) {
        const mutex = this.mutexes.get(url)
        this.mutexes.delete(url)
        if (mutex !== undefined)
            await this.timed("close", 30_000, mutex.close()).catch((error) => this.failed(error))
    }

    /** Waits for a call, and writes down one that takes longer than it may. */
    async timed (call, limit, promise) {
        const timer = setTimeout(() => say("slow", { call, limit, owner: this.owner }), limit)
        try {
            return await promise
        }
        finally {
            clearTimeout(timer)
        }
    }

    async step (mutex) {
        const shared = this.random() < 0.3, mode = shared ? "shared" : "exclusive"
        const kind = this.random()
        const attempt = kind < 0.15 ? "try" : "wait"
        history.ask(mutex.id, this.owner, { mode, attempt })
        let lock
        try {
            if (attempt === "try")
                lock = await this.timed("tryLock", 30_000, mutex.tryLock({ shared }))
            else if (kind < 0.45) {
                const timeout = Math.floor(this.random() * 400)
                lock = await this.timed("lock with a timeout", timeout + 30_000, mutex.lock({ shared, timeout }))
            }
            else if (kind < 0.6)
                lock = await this.timed("lock with a shared signal", 60_000, mutex.lock({ shared, signal: shutdown.signal }))
            else if (kind < 0.7)
                lock = await this.timed("lock with a signal", 60_000, mutex.lock({ shared, signal: AbortSignal.timeout(Math.floor(this.random() * 400)) }))
            else
                lock = await mutex.lock({ shared, timeout: 60_000 })
        }
        catch (error) {
            history.cancel(mutex.id, this.owner)
            this.failed(error)
            return sleep(20)
        }
        if (lock === null) {
            history.cancel(mutex.id, this.owner)
            return sleep(20)
        }
        this.grants++
        await this.hold(mutex, lock, shared)
    }

    async hold (mutex, lock, shared) {
        // Times are taken before the looks that they stand for: this process may be stopped between the two.
        const granted = now()
        if (lock.signal.aborted) {
            // Known to be over before it could be believed in.
            history.cancel(mutex.id, this.owner)
            return lock.release().catch((error) => this.failed(error))
        }
        history.grant(mutex.id, this.owner, { token: lock.token, at: granted })
        let told = false
        let looked = granted
        const lost = () => {
            if (told)
                return
            told = true
            // A holder believes as long as its signal says so: a look asks the addon's clock, so it does not wait for the news. The event
            // must follow soon, unless this thread stood still.
            const late = now() - looked
            const reason = lock.signal.reason
            const over = REVOKED.test(reason?.message) ? looked - NEWS : looked
            history.lost(mutex.id, this.owner, { at: over > granted ? over : granted + 1n })
            const stood = stoodAt > looked || now() - tick > STANDSTILL
            say("lost", { id: mutex.id, owner: this.owner, reason: reason?.message, code: reason?.code })
            if (late > 1_000_000_000n && !stood)
                say("unexpected", { late: Number(late), message: `a loss was told ${late / 1_000_000n} ms after the last look that said held` })
        }
        lock.signal.addEventListener("abort", lost, { once: true })
        const length = this.random() < 0.05 ? settings.ttl * 1000 * 1.6 : this.random() * 60
        const end = performance.now() + length
        const held = () => {
            const at = now()
            if (lock.signal.aborted)
                return false
            looked = at
            return true
        }
        const use = new Use(register, { id: mutex.id, owner: this.owner, token: lock.token, shared, held })
        await use.begin()
        while (performance.now() < end && held())
            await sleep(Math.min(LOOK, length))
        if (held())
            await use.end()
        const closing = this.random() < 0.05
        if (!told && held())
            history.release(mutex.id, this.owner, { at: looked })
        else
            lost()
        // A hold that the server ended of itself is not excluded, but fenced.
        for (const message of use.faults)
            say(REVOKED.test(lock.signal.reason?.message) ? "fenced" : "unexpected", { message, id: mutex.id, owner: this.owner })
        told = true
        await this.leave(mutex, lock, closing)
        if (!shared && this.random() < 0.1)
            say(await use.late() ? "late" : "refused", { id: mutex.id, owner: this.owner })
    }

    async leave (mutex, lock, closing) {
        if (closing)
            return this.close([ ...this.mutexes ].find(([ , each ]) => each === mutex)[0])
        await this.timed("release", 30_000, lock.release()).catch((error) => this.failed(error))
    }
}

function block (ms) {
    const end = performance.now() + ms
    while (performance.now() < end) ;
}

const onmessage = (message) => {
    if (message === "stop")
        stopping = true
    else if (message?.block)
        block(message.block)
}

process.on("unhandledRejection", (error) => say("unhandled", { message: error?.message, stack: error?.stack }))
process.on("uncaughtExceptionMonitor", (error) => say("uncaught", { message: error?.message, stack: error?.stack }))

let worker
if (isMainThread) {
    const tell = (message) => {
        worker?.postMessage(message)
        onmessage(message)
    }
    process.on("message", tell)
    const cutOff = () => setTimeout(tell, ORPHANED, "stop")
    process.on("disconnect", cutOff)
    if (settings.threads)
        worker = new Worker(new URL(import.meta.url), { workerData: { ...settings, seed: settings.seed + 1, threads: false } })
    if (process.connected)
        process.send("listening")
    else
        cutOff()
}
else
    parentPort.on("message", onmessage)

const ended = worker === undefined ? undefined : new Promise((resolve) => worker.once("exit", resolve))
await Promise.all(Array.from({ length: settings.flows }, (_, number) => new Flow(number).run()))
await ended
register.close()
history.close()
if (!isMainThread)
    parentPort.close()
else if (process.connected)
    process.disconnect()
