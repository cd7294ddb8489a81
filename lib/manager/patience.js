"use strict"

const aborts = require("../aborts.js")
const errors = require("../errors.js")
const { clearTimeout, setTimeout } = require("../timing.js")

/**
 * Waits for what comes before a request, no longer than the request itself may wait.
 * @param {Promise<void>} before
 * @param {{ timeout?: number, signal?: AbortSignal }} given
 * @param {string} name of the lock
 * @returns {Promise<void>}
 */
function within (before, { timeout, signal }, name) {
    if (timeout === undefined && signal === undefined)
        return before
    return new Promise((resolve, reject) => {
        const aborted = () => end(reject, aborts.reasonOf(signal))
        const timer = timeout === undefined ? undefined : setTimeout(() => end(reject, errors.timedOut(name, timeout)), timeout)
        const end = (settle, value) => {
            if (timer !== undefined)
                clearTimeout(timer)
            settle(value)
            // May be anybody's code, and throw.
            signal?.removeEventListener("abort", aborted)
        }
        signal?.addEventListener("abort", aborted, { once: true })
        before.then(() => end(resolve), (error) => end(reject, error))
        if (signal?.aborted)
            aborted()
    })
}

module.exports = { within }
