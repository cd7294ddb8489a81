"use strict"

const { inspect } = require("node:util")

/** Only the package itself can make a lock: it passes this. */
const KEY = Symbol("ipc-mutex: lock")

/** Node before 18.18 has no such symbol; TypeScript and its helpers then look for this one. */
const asyncDispose = Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")

/** One hold of one mutex, as users see it. See index.d.ts. */
class Lock {
    #hold

    constructor (key, hold) {
        if (key !== KEY)
            throw new TypeError("Illegal constructor: a Lock comes from mutex.lock(), mutex.tryLock() or mutex.withLock()")
        this.#hold = hold
    }

    get id () {
        return this.#hold.session.id
    }

    get name () {
        return this.#hold.session.name
    }

    get mode () {
        return this.#hold.mode
    }

    get token () {
        return this.#hold.token
    }

    get signal () {
        return this.#hold.signal
    }

    release () {
        return this.#hold.release()
    }

    [asyncDispose] () {
        return this.release()
    }

    /** @throws {Error} why the holder must not begin with its work, if the hold is over */
    static check (lock) {
        // A subclass of Mutex may give out handles of its own.
        if (#hold in lock)
            lock.#hold.session.check(lock.#hold)
    }

    [inspect.custom] (depth, options) {
        const { state } = this.#hold
        return `Lock ${inspect({ id: this.id, mode: this.mode, token: this.token, state }, options)}`
    }
}

const { check } = Lock
// Users see the class only for `instanceof`-like checks in debuggers; this one is the mutex's alone.
delete Lock.check

/** @param {import("./hold.js").Hold} hold */
const lockOf = (hold) => new Lock(KEY, hold)

module.exports = { asyncDispose, check, lockOf }
