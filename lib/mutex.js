"use strict"

const { EventEmitter } = require("node:events")
const { debuglog, inspect } = require("node:util")
const errors = require("./errors.js")
const settings = require("./settings.js")
const { createModel, parse } = require("./models/index.js")

require("./cluster/role.js").join()

/* What opens and uses mutexes is loaded with the first one that opens: a program that only loads the package waits less. */
let aborts, lock, port, trace, Waiter

function load () {
    aborts = require("./aborts.js")
    lock   = require("./lock.js")
    port   = require("./port.js")
    trace  = require("./trace.js")
    Waiter = require("./waiter.js").Waiter
}

const debug = debuglog("ipc-mutex")
/** As in lib/lock.js. */
const asyncDispose = Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")
const CLOSED = "closed", OPENING = "opening", OPEN = "open", CLOSING = "closing"

/** Mutual exclusion, as far as the URL reaches. See index.d.ts. */
class Mutex extends EventEmitter {
    #url
    #target
    #label
    #detector
    #state = CLOSED
    #opening
    #model
    /** The spm model while nothing but the lock itself is asked of it: nobody listens to events or looks for deadlocks. */
    #quick = null
    #observed = false
    /* Made when they are needed, because a program may have many mutexes that are open and idle. */
    /** What `acquire()` got and `release()` has not given back, oldest first. */
    #holds
    /** Requests without an answer, and what to do when one is withdrawn. */
    #waiters
    /** The handles of `lock()` that are held. */
    #locks

    constructor (url, options) {
        super()
        const text = settings.url(url)
        const { label, detectDeadlocks } = settings.mutexOptions(options)
        this.#target = parse(text)
        this.#url = text
        this.#label = label
        this.#detector = detectDeadlocks || debug.enabled ? require("./deadlock.js").detector() : null
    }

    get id () {
        return this.#target.id
    }

    open () {
        if (this.#state !== CLOSED)
            return Promise.reject(errors.alreadyOpen())
        this.#state = OPENING
        return this.#opening = this.#open()
    }

    async #open () {
        try {
            if (port === undefined)
                load()
            this.#model = createModel(this.#target, this.#url, this.#label, this)
            await this.#model.open()
        }
        catch (error) {
            this.#model = undefined
            this.#state = CLOSED
            debug("%s: open failed: %s", this.id, error.message)
            throw errors.retraced(error)
        }
        finally {
            this.#opening = undefined
        }
        this.#state = OPEN
        this.#chooseQuick()
        debug("%s: open", this.id)
    }

    async close () {
        if (this.#state === OPENING)
            await this.#opening
        if (this.#state !== OPEN)
            throw errors.notOpen()
        this.#state = CLOSING
        this.#quick = null
        const error = errors.closed(this.id)
        // The last first: so none of them gets in because of another's withdrawal.
        for (const withdraw of [ ...this.#waiters?.values() ?? [] ].reverse())
            withdraw(error, true)
        for (const [ hold, handle ] of this.#locks ?? []) {
            hold.onlost = undefined
            lock.close(handle, error)
        }
        for (const hold of this.#holds ?? [])
            hold.onlost = undefined
        this.#locks = this.#holds = undefined
        try {
            await this.#model.close()
        }
        finally {
            this.#model = undefined
            this.#state = CLOSED
            debug("%s: closed", this.id)
        }
    }

    acquire (options) {
        if (this.#quick !== null && options === undefined && !trace.active())
            return this.#quick.acquire()
        return this.#guarded(() => this.#acquire(options))
    }

    /** Calls that may make the caller a holder are watched for deadlocks, if that is wanted. */
    #guarded (call) {
        return this.#detector === null ? call() : this.#detector.guard(call)
    }

    async #acquire (options) {
        const given = settings.acquireOptions(options)
        try {
            this.#keep(await this.#take(given.shared, true, false, given))
        }
        catch (error) {
            throw errors.retraced(error)
        }
    }

    tryAcquire (options) {
        return this.#guarded(() => this.#tryAcquire(options))
    }

    async #tryAcquire (options) {
        const given = settings.tryOptions(options)
        const hold = await this.#take(given.shared, false, false, given)
        if (hold !== null)
            this.#keep(hold)
        return hold !== null
    }

    release () {
        // Such a hold began while nobody traced, so there is no span to end.
        if (this.#quick !== null && this.#quick.ticket !== 0)
            return this.#quick.free()
        return this.#release()
    }

    async #release () {
        if (this.#state !== OPEN)
            throw errors.notOpen()
        const hold = this.#model.takeQuickHold?.() ?? this.#holds?.shift()
        if (hold === undefined)
            throw errors.notAcquired()
        await this.#letGo(hold)
    }

    lock (options) {
        return this.#guarded(() => this.#lock(options))
    }

    async #lock (options) {
        const given = settings.acquireOptions(options)
        try {
            return this.#handle(await this.#take(given.shared, true, true, given))
        }
        catch (error) {
            throw errors.retraced(error)
        }
    }

    tryLock (options) {
        return this.#guarded(() => this.#tryLock(options))
    }

    async #tryLock (options) {
        const given = settings.tryOptions(options)
        const hold = await this.#take(given.shared, false, true, given)
        return hold === null ? null : this.#handle(hold)
    }

    async withLock (options, fn) {
        if (typeof options === "function" && fn === undefined)
            [ options, fn ] = [ undefined, options ]
        if (typeof fn !== "function")
            throw settings.wrongType("fn", "a function", fn)
        const handle = await this.lock(options)
        let result
        // The call is pending until the lock is released: it keeps the process alive, whatever the function waits for.
        port.keepAlive()
        try {
            result = await fn(handle)
        }
        catch (error) {
            try {
                await handle.release()
            }
            catch (releaseError) {
                settings.attach(error, "releaseError", releaseError)
            }
            throw error
        }
        finally {
            port.letGo()
        }
        await handle.release()
        return result
    }

    async query () {
        if (this.#state !== OPEN)
            throw errors.notOpen()
        return this.#model.query()
    }

    async [asyncDispose] () {
        if (this.#state === OPEN || this.#state === OPENING)
            await this.close()
    }

    [inspect.custom] (depth, options) {
        return `Mutex ${inspect({ id: this.id, model: this.#target.model, state: this.#state }, options)}`
    }

    /* Once somebody listens, calls take the way on which events are told. */

    on (...args) {
        this.#observe()
        return super.on(...args)
    }

    addListener (...args) {
        return this.on(...args)
    }

    prependListener (...args) {
        this.#observe()
        return super.prependListener(...args)
    }

    #observe () {
        this.#observed = true
        this.#quick = null
        this.#model?.heed?.((hold) => {
            hold.onlost = (reason) => this.#lost(hold, reason)
            this.#keep(hold)
        })
    }

    #chooseQuick () {
        this.#quick = !this.#observed && this.#detector === null && !debug.enabled ? this.#model.quick ?? null : null
    }

    /**
     * Asks the model. The place in the queue is taken before this returns.
     * @returns {Promise<import("./hold.js").Hold | null>} null: taken, and not to be waited for
     */
    #take (shared, wait, fenced, { timeout, signal }) {
        if (this.#state !== OPEN)
            return Promise.reject(errors.notOpen())
        if (signal?.aborted)
            return Promise.reject(signal.reason)
        if (this.#detector !== null && wait && timeout === undefined) {
            const conflict = this.#detector.conflict(this.#target, shared)
            if (conflict !== undefined)
                return Promise.reject(conflict)
        }
        const waiter = new Waiter(shared, wait, fenced)
        const span = trace.begin(this.#target, shared)
        const flow = this.#detector?.begin(this.#target, shared)
        let timer
        const onabort = (reason) => withdraw(reason, false)
        const over = () => {
            this.#waiters.delete(waiter)
            clearTimeout(timer)
            if (signal !== undefined)
                aborts.forget(signal, onabort)
        }
        const withdraw = (error, closing) => {
            over()
            if (flow !== undefined)
                this.#detector.end(flow, null)
            trace.end(span, error)
            debug("%s: withdrawn: %s", this.id, error?.message)
            // A mutex that closes withdraws all its requests at once; otherwise the promise settles when the waiter is gone.
            const gone = closing ? undefined : this.#model.cancel(waiter)
            if (closing)
                this.#model.abandon(waiter)
            if (gone === undefined)
                waiter.reject(error)
            else
                gone.then(() => waiter.reject(error), () => waiter.reject(error))
        }
        waiter.onend = (hold, error) => {
            over()
            if (flow !== undefined)
                this.#detector.end(flow, hold)
            this.#answered(hold, span, error)
        }
        this.#waiters ??= new Map()
        this.#waiters.set(waiter, withdraw)
        if (timeout !== undefined)
            timer = setTimeout(() => withdraw(errors.timedOut(this.id, timeout), false), timeout)
        if (signal !== undefined)
            aborts.watch(signal, onabort)
        this.#model.request(waiter)
        return waiter.promise
    }

    #answered (hold, span, error) {
        trace.end(span, error)
        if (hold === null)
            return
        hold.onlost = (reason) => this.#lost(hold, reason)
        trace.hold(span, hold)
        debug("%s: acquired (%s)", this.id, hold.mode)
        if (this.#observed)
            queueMicrotask(() => this.emit("acquire", this.#describe(hold)))
    }

    #keep (hold) {
        this.#holds ??= []
        this.#holds.push(hold)
    }

    #handle (hold) {
        const handle = lock.make(this.id, hold, () => {
            this.#locks?.delete(hold)
            return this.#letGo(hold)
        })
        this.#locks ??= new Map()
        this.#locks.set(hold, handle)
        if (hold.lost !== undefined)
            lock.end(handle, hold.lost)
        return handle
    }

    async #letGo (hold) {
        this.#detector?.left(hold)
        try {
            await hold.release()
        }
        catch (error) {
            trace.released(hold, error)
            throw error
        }
        trace.released(hold)
        debug("%s: released", this.id)
        if (this.#observed)
            this.emit("release", this.#describe(hold))
    }

    #lost (hold, error) {
        debug("%s: lost: %s", this.id, error.message)
        trace.released(hold, error)
        this.#detector?.left(hold)
        const handle = this.#locks?.get(hold)
        if (handle !== undefined)
            lock.end(handle, error)
        this.emit("lost", error, this.#describe(hold))
    }

    #describe (hold) {
        const { mode, token } = hold
        return token === undefined ? { id: this.id, mode } : { id: this.id, mode, token }
    }
}

module.exports = { Mutex }
