"use strict"

/**
 * A request that has not been answered yet. A model calls exactly one of `granted`, `busy` and `failed`, once, unless the
 * waiter was withdrawn before; it then calls none of them.
 */
class Waiter {
    /**
     * @param {boolean} shared
     * @param {boolean} wait whether to queue when the lock is taken
     * @param {boolean} fenced whether a fencing token is wanted
     */
    constructor (shared, wait, fenced) {
        this.shared  = shared
        this.wait    = wait
        this.fenced  = fenced
        /** The model's own name for the request. */
        this.key     = 0
        /** Called when the request is over, before the promise settles; set by the mutex. */
        this.onend   = undefined
        this.promise = new Promise((resolve, reject) => {
            this.resolve = resolve
            this.reject  = reject
        })
    }

    /** @param {import("./hold.js").Hold} hold */
    granted (hold) {
        this.onend?.(hold)
        this.resolve(hold)
    }

    busy () {
        this.onend?.(null)
        this.resolve(null)
    }

    failed (error) {
        this.onend?.(null, error)
        this.reject(error)
    }
}

module.exports = { Waiter }
