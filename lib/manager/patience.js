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
async function within (before, { timeout, signal }, name) {
    let timer, unlisten
    try {
        await Promise.race([ before, new Promise((_resolve, reject) => {
            if (signal !== undefined)
                unlisten = aborts.listen(signal, () => reject(aborts.reasonOf(signal)))
            if (timeout !== undefined)
                timer = setTimeout(() => reject(errors.timedOut(name, timeout)), timeout)
        }) ])
    }
    finally {
        if (timer !== undefined)
            clearTimeout(timer)
        unlisten?.()
    }
}

module.exports = { within }
