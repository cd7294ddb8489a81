"use strict"

const notify = require("./notify.js")

/*
 * One listener per signal, however many requests wait under it: a program that passes its shutdown signal to a thousand calls gets no
 * warning of a leak, and pays for one listener. And they are withdrawn together, which only one who knows all of them can do.
 */

/** @type {WeakMap<AbortSignal, Watch>} */
const watches = new WeakMap()

/**
 * Why a signal that has aborted did so; what its own code throws is the reason then.
 * @param {{ reason?: unknown }} signal one from elsewhere may have no reason
 */
function reasonOf (signal) {
    let reason
    try {
        ({ reason } = signal)
    }
    catch (error) {
        reason = error
    }
    return reason === undefined ? new DOMException("This operation was aborted", "AbortError") : reason
}

/** The requests that wait under one signal, and whoever else does. */
class Watch {
    #signal
    #requests = new Set()
    #listeners = new Set()
    #isLeaving = false
    #listener

    constructor (signal) {
        this.#signal = signal
        /** Withdraws requests, given a list of them and the reason. */
        this.withdrawAll = undefined
        this.#listener = () => {
            watches.delete(signal)
            const reason = reasonOf(signal)
            this.withdrawAll?.([ ...this.#requests ], reason)
            for (const listener of [ ...this.#listeners ])
                listener(reason)
        }
        signal.addEventListener("abort", this.#listener, { once: true })
    }

    add (request) {
        this.#requests.add(request)
    }

    delete (request) {
        this.#requests.delete(request)
        this.#rest()
    }

    listen (listener) {
        this.#listeners.add(listener)
    }

    unlisten (listener) {
        this.#listeners.delete(listener)
        this.#rest()
    }

    get #isIdle () {
        return this.#requests.size + this.#listeners.size === 0
    }

    /** The last one takes the listener away, soon: another one may come first, and a signal may be anybody's code. */
    #rest () {
        if (this.#isIdle && !this.#isLeaving) {
            this.#isLeaving = true
            notify.later(undefined, leave, this)
        }
    }

    leave () {
        this.#isLeaving = false
        if (this.#isIdle && watches.get(this.#signal) === this) {
            watches.delete(this.#signal)
            this.#signal.removeEventListener("abort", this.#listener)
        }
    }
}

const leave = (watch) => { watch.leave() }

function watchOf (signal) {
    let found = watches.get(signal)
    if (found === undefined) {
        found = new Watch(signal)
        watches.set(signal, found)
    }
    return found
}

/**
 * @param {AbortSignal} signal
 * @param {(requests: object[], reason: unknown) => void} withdrawAll called with those that were added and not deleted when it aborts
 * @returns {Watch} of this signal
 */
function watch (signal, withdrawAll) {
    const found = watchOf(signal)
    found.withdrawAll = withdrawAll
    return found
}

/**
 * Calls `listener` when a signal aborts, or if it has.
 * @param {AbortSignal} signal
 * @param {(reason: unknown) => void} listener may be called twice
 * @returns {() => void} ends that
 */
function listen (signal, listener) {
    const found = watchOf(signal)
    const unlisten = () => { found.unlisten(listener) }
    found.listen(listener)
    try {
        if (signal.aborted)
            listener(reasonOf(signal))
    }
    catch (error) {
        unlisten()
        throw error
    }
    return unlisten
}

module.exports = { listen, reasonOf, watch }
