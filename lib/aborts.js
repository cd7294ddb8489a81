"use strict"

/*
 * One listener per signal, however many calls wait under it: a program that passes its shutdown signal to a thousand calls
 * gets no warning of a leak, and pays for one listener.
 */

/** @type {WeakMap<AbortSignal, { calls: Set<(reason: unknown) => void>, listener: () => void }>} */
const watched = new WeakMap()

/**
 * Calls `call` with the reason when the signal aborts, unless `forget` was called before.
 * @param {AbortSignal} signal one that has not aborted yet
 * @param {(reason: unknown) => void} call
 */
function watch (signal, call) {
    let entry = watched.get(signal)
    if (entry === undefined) {
        const calls = new Set()
        const listener = () => {
            watched.delete(signal)
            for (const each of calls)
                each(signal.reason)
        }
        entry = { calls, listener }
        watched.set(signal, entry)
        signal.addEventListener("abort", listener, { once: true })
    }
    entry.calls.add(call)
}

/** Ends a `watch`; the last one takes the listener away. */
function forget (signal, call) {
    const entry = watched.get(signal)
    if (entry !== undefined && entry.calls.delete(call) && entry.calls.size === 0) {
        watched.delete(signal)
        signal.removeEventListener("abort", entry.listener)
    }
}

module.exports = { watch, forget }
