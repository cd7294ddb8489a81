"use strict"

const { inspect } = require("node:util")
const aborts = require("../aborts.js")
const errors = require("../errors.js")
const { asyncDispose } = require("../lock.js")
const { now } = require("../timing.js")

const ignore = () => {}

/** The holds of several names, as one. See index.d.ts. */
class LockSet {
    /** In the order in which they were taken. */
    #locks
    #controller
    #releasing

    /** @param {Array<{ names: string[], lock: object }>} taken */
    constructor (taken) {
        this.#locks = taken.map(({ lock }) => lock)
        this.names  = Object.freeze(taken.flatMap(({ names }) => names))
        this.tokens = new Map(taken.flatMap(({ names, lock }) => names.map((name) => [ name, lock.token ])))
        this.mode   = this.#locks[0].mode
    }

    get signal () {
        if (this.#controller === undefined) {
            this.#controller = new AbortController()
            for (const { signal } of this.#locks)
                signal.addEventListener("abort", () => { this.#controller.abort(signal.reason) }, { once: true })
        }
        const reason = this.#reason()
        if (reason !== undefined)
            this.#controller.abort(reason)
        return this.#controller.signal
    }

    /** Why one of the holds is over. */
    #reason () {
        return this.#locks.find(({ signal }) => signal.aborted)?.signal.reason
    }

    release () {
        return this.#releasing ??= releaseAll(this.#locks)
    }

    [asyncDispose] () {
        return this.release()
    }

    /** @throws {Error} why the holder must not begin with its work, if one of the holds is over */
    static check (set) {
        const reason = set.#reason()
        if (reason !== undefined)
            throw errors.retraced(reason)
    }

    [inspect.custom] (depth, options) {
        return `LockSet ${inspect({ names: this.names, mode: this.mode, tokens: this.tokens }, options)}`
    }
}

const { check } = LockSet
// As in lib/lock.js.
delete LockSet.check

/** Releases all, whatever one of them says; then says that. */
async function releaseAll (locks) {
    const results = await Promise.allSettled([ ...locks ].reverse().map((lock) => lock.release()))
    const failed = results.find(({ status }) => status === "rejected")
    if (failed !== undefined)
        throw failed.reason
}

/**
 * Takes one lock after the other: all, or none.
 * @param {Array<string[]>} order see order.js
 * @param {{ timeout?: number, signal?: AbortSignal }} given for all together
 * @param {(name: string, given: object) => Promise<object | null>} take one
 * @returns {Promise<LockSet | null>} null if one of them was not to be had
 */
async function takeAll (order, given, take) {
    const { timeout } = given
    const end = timeout === undefined ? undefined : now() + timeout
    // Aborts for the caller's reason, or because one of those that are held is lost while others are waited for.
    const controller = new AbortController()
    const unlink = link(given.signal, controller)
    const taken = []
    try {
        for (const names of order) {
            const left = end === undefined ? undefined : Math.max(0, end - now())
            const lock = await take(names[0], { ...given, timeout: left, signal: controller.signal })
            if (lock === null) {
                await releaseAll(taken.map((one) => one.lock)).catch(ignore)
                return null
            }
            taken.push({ names, lock })
            if (taken.length < order.length)
                link(lock.signal, controller)
        }
        const set = new LockSet(taken)
        check(set)
        // What ended one call may have let in another one under the same signal.
        if (controller.signal.aborted)
            throw controller.signal.reason
        return set
    }
    catch (error) {
        await releaseAll(taken.map((one) => one.lock)).catch(ignore)
        throw error?.code === "ERR_TIMEOUT" && timeout !== undefined ? timedOut(order, timeout, error) : error
    }
    finally {
        unlink()
    }
}

/** Aborts one with the other. @returns {() => void} ends that */
function link (signal, controller) {
    if (signal === undefined)
        return ignore
    return aborts.listen(signal, (reason) => { controller.abort(reason) })
}

function timedOut (order, timeout, { cause }) {
    const error = errors.timedOut(order.map(([ name ]) => name).join("\", \""), timeout)
    if (cause !== undefined)
        error.cause = cause
    return error
}

module.exports = { check, takeAll }
