"use strict"

const { inspect } = require("node:util")

/** Only the package itself can make a lock: it passes this. */
const KEY = Symbol("ipc-mutex: lock")

/** Node before 18.18 has no such symbol; TypeScript and its helpers then look for this one. */
const asyncDispose = Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")

/** One hold of one mutex, independent of all others. See index.d.ts. */
class Lock {
    #id
    #hold
    #token
    #letGo
    #released
    #controller

    constructor (key, id, hold, letGo) {
        if (key !== KEY)
            throw new TypeError("Illegal constructor: a Lock comes from mutex.lock(), mutex.tryLock() or mutex.withLock()")
        this.#id    = id
        this.#hold  = hold
        this.#token = hold.token
        this.#letGo = letGo
    }

    get id () {
        return this.#id
    }

    get mode () {
        return this.#hold.mode
    }

    get token () {
        return this.#token
    }

    get signal () {
        if (this.#controller === undefined) {
            this.#controller = new AbortController()
            if (this.#hold.lost !== undefined)
                this.#controller.abort(this.#hold.lost)
        }
        // A loss that has not been heard yet, because this thread was busy or the machine asleep, must not be overlooked.
        if (this.#released === undefined)
            this.#hold.model.verify?.(this.#hold)
        return this.#controller.signal
    }

    release () {
        return this.#released ??= this.#letGo(this.#hold)
    }

    [asyncDispose] () {
        return this.release()
    }

    /** The hold is gone; called by the mutex. */
    static end (lock, error) {
        lock.#controller?.abort(error)
    }

    /** The mutex was closed, which released the hold. */
    static close (lock, error) {
        lock.#released ??= Promise.resolve()
        lock.#controller?.abort(error)
    }

    [inspect.custom] (depth, options) {
        const state = this.#hold.lost !== undefined ? "lost" : this.#released !== undefined ? "released" : "held"
        return `Lock ${inspect({ id: this.#id, mode: this.mode, token: this.#token, state }, options)}`
    }
}

const { end, close } = Lock
// Users see the class only for `instanceof`-like checks in debuggers; these two are the mutex's alone.
delete Lock.end
delete Lock.close

const make = (id, hold, letGo) => new Lock(KEY, id, hold, letGo)

module.exports = { Lock, make, end, close, asyncDispose }
