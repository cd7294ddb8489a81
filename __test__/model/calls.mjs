// Random walks over the calls of a mutex and everything that can call back in: listeners, subscribers of the tracing channels, listeners of signals, getters
// of options and continuations of calls do what the walk itself does. Each deed is a step in which a lock table of this thread changes at once, so the
// naive reference is told the same and says at any time who holds and who waits.
import assert from "node:assert/strict"
import diagnostics from "node:diagnostics_channel"
import { AsyncLocalStorage } from "node:async_hooks"
import { expire, running } from "./manual-timers.mjs"
import { Reference, randomness } from "./reference.mjs"

const LOCKS = 2, OBJECTS = 3, CROWD = 8, SIGNALS = 2
/** How deep deeds may do deeds. */
const DEPTH = 3
const PARTS = [ "acquire:start", "acquire:end", "acquire:asyncStart", "acquire:asyncEnd", "acquire:error", "hold:start", "hold:end", "hold:asyncStart",
    "hold:asyncEnd", "hold:error" ]

const turn = () => new Promise(setImmediate)
const OWN = "thrown by the walk"
const storage = new AsyncLocalStorage()

export class Calls {
    counts = { granted: 0, busy: 0, aborted: 0, expired: 0, released: 0, closed: 0, thrown: 0, nested: 0 }
    #random
    #locks
    #signals = []
    #depth = 0
    #failure
    #channels = []
    #believers = new Set()
    #trail = []
    #calls = 0

    /**
     * @param {typeof import("../../index.js")} Mutex
     * @param {(id: string) => string} url
     * @param {number} seed
     */
    constructor (Mutex, url, seed) {
        this.#random = randomness(seed)
        this.#locks = Array.from({ length: LOCKS }, (_, number) => {
            const lock = { number, id: `calls-${process.pid}-${number}`, reference: new Reference() }
            lock.objects = Array.from({ length: OBJECTS }, (_one, place) => {
                const mutex = new Mutex(url(lock.id), { label: `${number}.${place}` })
                return { lock, mutex, name: `${number}.${place}`, state: "closed", unreleased: [], events: [] }
            })
            return lock
        })
        for (let number = 0; number < SIGNALS; number++)
            this.#signals.push(this.#signal())
    }

    /** Walks so many steps. @throws {Error} with the seed and the last deeds */
    async walk (steps) {
        const uncaught = (error) => error.message === OWN ? this.counts.thrown++ : this.#fail(error)
        const others = process.listeners("uncaughtException")
        process.removeAllListeners("uncaughtException").on("uncaughtException", uncaught)
        try {
            for (const object of this.#objects())
                await this.#open(object)
            for (let step = 0; step < steps && this.#failure === undefined; step++) {
                this.#deed()
                if (step % 16 === 15)
                    await turn()
                else if (this.#random(2) === 0)
                    await null
                if (step % 64 === 63)
                    await this.#rest()
            }
            await this.#finish()
            if (this.#failure !== undefined)
                throw this.#failure
        }
        finally {
            this.#unsubscribe()
            process.off("uncaughtException", uncaught)
            for (const other of others)
                process.on("uncaughtException", other)
        }
    }

    trail () {
        return this.#trail.slice(-20).join(", ")
    }

    #fail (error) {
        this.#failure ??= error
    }

    #objects () {
        return this.#locks.flatMap(({ objects }) => objects)
    }

    #pick (list) {
        return list[this.#random(list.length)]
    }

    #note (what) {
        this.#trail.push(what)
        if (this.#trail.length > 100)
            this.#trail.splice(0, 50)
    }

    /** One deed, by the walk itself or by whatever calls back. */
    #deed () {
        const dice = this.#random(100)
        if (dice < 40)
            this.#ask()
        else if (dice < 65)
            this.#release()
        else if (dice < 68)
            this.#abort()
        else if (dice < 72)
            this.#expire()
        else if (dice < 75)
            this.#close(this.#pick(this.#objects()))
        else if (dice < 79)
            this.#listen(this.#pick(this.#objects()))
        else if (dice < 82)
            this.#subscribe()
    }

    /** What foreign code does when it is called. */
    #callBack (where) {
        if (this.#depth >= DEPTH || this.#failure !== undefined || this.#random(3) > 0)
            return
        this.#depth++
        this.counts.nested++
        this.#note(`(${where}`)
        try {
            this.#deed()
        }
        catch (error) {
            this.#fail(error)
        }
        finally {
            this.#note(")")
            this.#depth--
        }
        // Signals and getters of options pass on what they throw; everything else is told by us.
        if (/^(event|channel)/.test(where) && this.#random(20) === 0)
            throw new Error(OWN)
    }

    #signal () {
        const controller = new AbortController()
        return { controller, calls: new Set() }
    }

    #ask () {
        const object = this.#pick(this.#objects())
        const { lock, mutex } = object
        if (object.state === "open" && lock.reference.queue.length >= CROWD)
            return
        const way = this.#pick([ "acquire", "acquire", "lock", "tryAcquire", "tryLock", "withLock" ])
        const isTry = way.startsWith("try")
        const call = { object, way, number: ++this.#calls, shared: false, session: object.session, state: "asked", finish: undefined }
        const options = this.#options(call, isTry)
        const args = way === "withLock" ? [ options, (handle) => this.#section(call, handle) ] : options === undefined ? [] : [ options ]
        const settled = [ (value) => this.#resolved(call, value), (error) => this.#rejected(call, error) ]
        const promise = storage.run(call, () => mutex[way](...args).then(...settled))
        // Here the place in the queue is taken, and what was called back meanwhile came before.
        this.#note(`${call.number}: ${way} ${call.shared ? "shared " : ""}of ${object.name}`)
        call.promise = promise.catch((error) => this.#fail(error))
        // Foreign code that ran within the call may have closed the mutex or aborted the signal.
        if (object.state !== "open" || object.session !== call.session || call.signal?.controller.signal.aborted)
            return this.#leave(call, "withdrawn")
        call.signal?.calls.add(call)
        const { reference } = lock
        if (isTry && !reference.free(call.shared)) {
            call.state = "busy"
            return
        }
        this.#granted(reference.request(call))
    }

    #options (call, isTry) {
        if (this.#random(4) === 0)
            return undefined
        const options = {}
        call.shared = this.#random(2) === 0
        Object.defineProperty(options, "shared", { enumerable: true, get: () => {
            this.#callBack("getter")
            return call.shared
        } })
        if (!isTry && this.#random(4) > 0) {
            call.signal = this.#pick(this.#signals)
            options.signal = call.signal.controller.signal
        }
        if (!isTry && this.#random(3) === 0)
            options.timeout = 1000
        return options
    }

    /** The reference says who has the lock now. */
    #granted (calls) {
        for (const call of calls) {
            call.state = "held"
            this.counts.granted++
            if (/cquire/.test(call.way))
                call.object.unreleased.push(call)
        }
    }

    /** A call that was waiting or holding is over, for the reference too. */
    #leave (call, state) {
        call.state = state
        call.signal?.calls.delete(call)
    }

    #resolved (call, value) {
        const name = `call ${call.number}, ${call.way} of ${call.object.name}`
        call.settled = true
        call.signal?.calls.delete(call)
        assert.ok(storage.getStore() === call)
        if (value === false || value === null)
            return this.#refused(call, name)
        if (call.way === "withLock")
            return assert.equal(value, call.number)
        if (call.way === "lock" || call.way === "tryLock") {
            call.handle = value
            if (call.state === "closed")
                return assert.equal(value.signal.aborted, true, `${name} gives a handle that looks held behind close()`)
            assert.equal(call.state, "held", `${name} was let in`)
            value.signal.addEventListener("abort", () => this.#callBack("lock.signal"))
        }
        // An acquire() without options that had the lock at once has resolved already.
        else if (call.state !== "released" && call.state !== "closed")
            assert.equal(call.state, "held", `${name} was let in`)
        if (call.state === "held")
            this.#believe(call)
        this.#callBack("continuation")
    }

    #refused (call, name) {
        assert.equal(call.state, "busy", `${name} was refused a free lock`)
        this.counts.busy++
    }

    #believe (call) {
        for (const other of this.#believers)
            if (other.object.lock === call.object.lock && !(other.shared && call.shared) && other !== call)
                assert.fail(`call ${call.number} believes in a lock in which call ${other.number} believes`)
        this.#believers.add(call)
    }

    #rejected (call, error) {
        const name = `call ${call.number}, ${call.way} of ${call.object.name}`
        call.settled = true
        if (error?.code === "ERR_NOT_OPEN")
            return assert.ok(call.state === "withdrawn", `${name}: ${error.stack}`)
        if (error?.code === "ERR_CLOSED")
            return assert.ok(call.state === "closed" || call.state === "withdrawn", `${name} was told of a close(), but is ${call.state}`)
        assert.equal(call.state, "withdrawn", `${name}: ${error?.stack ?? error}`)
    }

    /** What withLock() runs. */
    async #section (call, handle) {
        assert.equal(call.state, "held", `the function of call ${call.number} was started on a hold that is ${call.state}`)
        assert.equal(handle.signal.aborted, false)
        call.handle = handle
        this.#believe(call)
        this.#callBack("section")
        if (call.state === "held")
            await new Promise((resolve) => { call.finish = resolve })
        return call.number
    }

    #release () {
        const lock = this.#pick(this.#locks)
        const held = lock.reference.holders.filter((call) => call.handle !== undefined || /cquire/.test(call.way) && call.settled)
        if (held.length === 0)
            return
        let call = this.#pick(held)
        const { object } = call
        if (/cquire/.test(call.way))
            [ call ] = object.unreleased.splice(0, 1)
        this.#note(`${call.number}: release of ${object.name}`)
        this.#over(call, "released")
        const granted = lock.reference.leave(call)
        this.#granted(granted)
        const released = call.handle === undefined ? object.mutex.release() : call.handle.release()
        released.then(() => { this.counts.released++ }, (error) => this.#fail(error))
        if (call.handle !== undefined)
            assert.ok(call.handle.release() === released)
        call.finish?.()
    }

    /** The caller does not believe in its hold any more. */
    #over (call, state) {
        this.#leave(call, state)
        this.#believers.delete(call)
    }

    #abort () {
        const place = this.#random(SIGNALS)
        const { controller, calls } = this.#signals[place]
        this.#signals[place] = this.#signal()
        this.#note(`abort of ${[ ...calls ].filter(({ state }) => state === "asked").map(({ number }) => number).join(" ")}`)
        this.#withdraw([ ...calls ].filter(({ state }) => state === "asked"))
        this.counts.aborted++
        // Behind the package's own listener.
        controller.signal.addEventListener("abort", () => this.#callBack("signal"))
        controller.abort(new Error("aborted by the walk"))
    }

    #withdraw (calls) {
        for (const call of calls)
            this.#leave(call, "withdrawn")
        for (const lock of this.#locks)
            this.#granted(lock.reference.leaveAll(calls.filter(({ object }) => object.lock === lock)))
    }

    #expire () {
        const timer = this.#pick(running())
        if (timer === undefined)
            return
        const [ request ] = timer.args
        const asked = this.#waiting().find((one) => request.context?.runInAsyncScope(() => storage.getStore()) === one)
        this.#note(`timeout of ${asked?.number}`)
        assert.ok(asked !== undefined, "a timer of nobody who waits")
        this.#withdraw([ asked ])
        this.counts.expired++
        expire(timer)
    }

    #waiting () {
        return this.#locks.flatMap(({ reference }) => reference.queue)
    }

    async #open (object) {
        object.state = "opening"
        await object.mutex.open()
        object.state = "open"
        object.session = {}
        object.unreleased = []
    }

    #close (object) {
        if (object.state !== "open" || this.#random(2) === 0)
            return
        this.#note(`close of ${object.name}`)
        object.state = "closing"
        const { reference } = object.lock
        const mine = [ ...reference.queue, ...reference.holders ].filter((call) => call.object === object)
        const waiting = mine.filter((call) => reference.queue.includes(call))
        for (const call of mine)
            this.#over(call, "closed")
        this.#granted(reference.leaveAll(waiting).filter((call) => !mine.includes(call)))
        this.#granted(reference.leaveAll(mine))
        this.counts.closed++
        const sessionCalls = mine
        object.closing = object.mutex.close().then(async () => {
            for (const call of sessionCalls)
                call.finish?.()
            await turn()
            for (const call of sessionCalls)
                assert.ok(call.settled || call.way === "withLock", `call ${call.number} has not settled behind close()`)
            await this.#open(object)
        }).catch((error) => this.#fail(error))
    }

    #listen (object) {
        const { mutex } = object
        if (object.isHeard) {
            object.isHeard = false
            return mutex.removeAllListeners()
        }
        object.isHeard = true
        for (const event of [ "acquire", "release", "lost" ])
            mutex.on(event, (info) => {
                const call = storage.getStore()
                if (event === "lost")
                    this.#fail(new Error(`${object.name} has lost something`))
                if (event === "acquire" && call !== undefined && call.object.mutex !== mutex)
                    this.#fail(new Error(`acquire of ${object.name} was told in the context of ${call.object.name}`))
                if (info?.id !== object.lock.id)
                    this.#fail(new Error(`${event} of another lock`))
                this.#callBack(`event ${event}`)
            })
    }

    #subscribe () {
        if (this.#channels.length > 0)
            return this.#unsubscribe()
        for (const part of PARTS) {
            const channel = `tracing:ipc-mutex:${part}`
            const listener = ({ id }) => {
                const call = storage.getStore()
                const isOwn = call === undefined || call.object.lock.id === id
                if (!isOwn)
                    this.#fail(new Error(`${part} of ${id} was told in the context of ${call.object.name}`))
                // What is asked here has its place in the queue behind the one that is told of.
                if (part !== "acquire:end")
                    this.#callBack(`channel ${part}`)
            }
            diagnostics.subscribe(channel, listener)
            this.#channels.push([ channel, listener ])
        }
    }

    #unsubscribe () {
        for (const [ channel, listener ] of this.#channels.splice(0))
            diagnostics.unsubscribe(channel, listener)
    }

    /** Nothing is on its way: the lock tables have whom the reference has, and every call that is over has settled. */
    async #rest () {
        for (let count = 0; count < 4; count++)
            await turn()
        for (const { objects, reference, id } of this.#locks) {
            const open = objects.find(({ state }) => state === "open")
            if (open === undefined || this.#failure !== undefined)
                continue
            for (const call of reference.holders)
                assert.ok(call.settled || call.handle !== undefined, `call ${call.number} has the lock and was not told`)
            const { held, pending } = await open.mutex.query()
            const described = (list) => list.map(({ shared, object }) => `${object.name} ${shared ? "shared" : "exclusive"}`)
            const seen = (list) => list.map(({ label, mode }) => `${label} ${mode}`)
            if (reference.holders.every((call) => call.state === "held") && objects.every(({ state }) => state !== "closing")) {
                assert.deepEqual(seen(held).sort(), described(reference.holders).sort(), `who holds ${id}`)
                assert.deepEqual(seen(pending), described(reference.queue), `who waits for ${id}`)
            }
        }
    }

    async #finish () {
        this.#depth = DEPTH
        await this.#rest()
        for (const object of this.#objects()) {
            await object.closing
            object.mutex.removeAllListeners()
        }
        this.#unsubscribe()
        if (this.#failure !== undefined)
            return
        for (const { reference } of this.#locks)
            for (const call of [ ...reference.holders, ...reference.queue ]) {
                this.#over(call, "closed")
                call.finish?.()
            }
        // In one step, as the reference sees it.
        await Promise.all(this.#objects().map(({ mutex }) => mutex.close()))
        await turn()
        assert.deepEqual(running(), [], "a timer is left")
        for (const { objects: [ { mutex } ] } of this.#locks) {
            await mutex.open()
            assert.deepEqual(await mutex.query(), { held: [], pending: [] })
            assert.equal(await mutex.tryAcquire(), true)
            await mutex.close()
        }
    }
}
