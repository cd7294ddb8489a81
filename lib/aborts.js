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

/** The requests that wait under one signal. */
class Watch {
    #signal
    #requests = new Set()
    #isLeaving = false
    #listener

    constructor (signal, withdrawAll) {
        this.#signal = signal
        this.#listener = () => {
            watches.delete(signal)
            withdrawAll([ ...this.#requests ], reasonOf(signal))
        }
        signal.addEventListener("abort", this.#listener, { once: true })
    }

    add (request) {
        this.#requests.add(request)
    }

    /** The last request takes the listener away, soon: another one may come first, and a signal may be anybody's code. */
    delete (request) {
        this.#requests.delete(request)
        if (this.#requests.size === 0 && !this.#isLeaving) {
            this.#isLeaving = true
            notify.later(undefined, leave, this)
        }
    }

    leave () {
        this.#isLeaving = false
        if (this.#requests.size === 0 && watches.get(this.#signal) === this) {
            watches.delete(this.#signal)
            this.#signal.removeEventListener("abort", this.#listener)
        }
    }
}

const leave = (watch) => { watch.leave() }

/**
 * @param {AbortSignal} signal
 * @param {(requests: object[], reason: unknown) => void} withdrawAll called with those that were added and not deleted when it aborts
 * @returns {Watch} of this signal
 */
function watch (signal, withdrawAll) {
    let found = watches.get(signal)
    if (found === undefined) {
        found = new Watch(signal, withdrawAll)
        watches.set(signal, found)
    }
    return found
}

/**
 * Calls `listener` when a signal aborts, or if it has.
 * @param {AbortSignal} signal
 * @param {() => void} listener may be called twice
 * @returns {() => void} takes the listener away, soon: what the signal's own code throws then is for nobody who calls this
 */
function listen (signal, listener) {
    signal.addEventListener("abort", listener, { once: true })
    if (signal.aborted)
        listener()
    return () => { notify.later(undefined, unlisten, signal, listener) }
}

const unlisten = (signal, listener) => { signal.removeEventListener("abort", listener) }

module.exports = { listen, reasonOf, watch }
