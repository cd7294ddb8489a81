"use strict"

/** Foreign words as an error. It was thrown nowhere, so it has no stack to show, which would only hide that of the error around it. */
function quoted (words) {
    const error = new Error(words)
    error.stack = `Error: ${words}`
    return error
}

/** The one error class of the package. `code` is stable; `cause` keeps a server's own message. */
class MutexError extends Error {
    /**
     * @param {string} code one of the ERR_ codes
     * @param {string} message what went wrong, in a sentence
     * @param {unknown} [cause] the error, or the server's own words, behind it
     */
    constructor (code, message, cause) {
        if (cause === undefined)
            super(message)
        else
            super(message, { cause: typeof cause === "string" ? quoted(cause) : cause })
        this.code = code
    }
}

Object.defineProperty(MutexError.prototype, "name", { value: "MutexError", configurable: true, writable: true })

/* Programs written for 1.x match on the words before the colon. */
const notOpen     = (id) => new MutexError("ERR_NOT_OPEN", `still not opened: call open() of mutex "${id}" first`)
const alreadyOpen = (id) => new MutexError("ERR_ALREADY_OPEN", `already opened: mutex "${id}" must be closed before it can be opened again`)
const notAcquired = (id) => new MutexError("ERR_NOT_ACQUIRED", `still not acquired: mutex "${id}" has nothing to release`)
const closed      = (id) => new MutexError("ERR_CLOSED", `mutex "${id}" was closed`)
const managerClosed = () => new MutexError("ERR_CLOSED", "the lock manager was closed")
const stolen      = (id) => new MutexError("ERR_LOCK_LOST", `lock "${id}" was lost: another request has stolen it`)
const queueFull   = (name, pending) => new MutexError("ERR_QUEUE_FULL", `lock "${name}" has ${pending} pending calls: maxPending allows no more`)
const timedOut    = (id, ms) => new MutexError("ERR_TIMEOUT", `lock "${id}" was not acquired in ${ms} ms`)

/**
 * Lets the stack of an error begin where an asynchronous call passes it on: there V8 knows who awaits the call, so the
 * caller's own lines show, which they do not where an answer was heard.
 * @template T @param {T} error @returns {T} the same
 */
function retraced (error) {
    if (error instanceof MutexError)
        Error.captureStackTrace(error, retraced)
    return error
}

module.exports = { MutexError, retraced, notOpen, alreadyOpen, notAcquired, closed, managerClosed, stolen, queueFull, timedOut }
