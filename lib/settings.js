"use strict"

/* What callers pass: checked, with the defaults filled in. */

/** The longest time that a timer of Node can wait. */
const LONGEST = 2 ** 31 - 1

/**
 * The error for an argument of the wrong type, as Node's own APIs make it.
 * @param {string} name
 * @param {string} expected
 * @param {unknown} actual
 */
function wrongType (name, expected, actual) {
    const error = new TypeError(`"${name}" must be ${expected}, not ${actual === null ? "null" : typeof actual}`)
    error.code = "ERR_INVALID_ARG_TYPE"
    return error
}

/** @returns {string} the text of a URL given as text or as a `URL`; anything else goes to the parser, which names it */
function url (value) {
    if (typeof value === "string")
        return value
    if (value instanceof URL)
        return value.href
    return value === undefined || value === null ? "" : value
}

const NONE = Object.freeze({ label: undefined, detectDeadlocks: false })

/** @returns {{ label?: string, detectDeadlocks: boolean }} */
function mutexOptions (options) {
    if (options === undefined)
        return NONE
    if (options === null || typeof options !== "object")
        throw wrongType("options", "an object", options)
    const { label, detectDeadlocks = false } = options
    if (label !== undefined && typeof label !== "string")
        throw wrongType("options.label", "a string", label)
    if (typeof detectDeadlocks !== "boolean")
        throw wrongType("options.detectDeadlocks", "a boolean", detectDeadlocks)
    return { label, detectDeadlocks }
}

const DEFAULTS = Object.freeze({ shared: false, timeout: undefined, signal: undefined })

/** @returns {{ shared: boolean, timeout?: number, signal?: AbortSignal }} */
function acquireOptions (options) {
    if (options === undefined)
        return DEFAULTS
    if (options === null || typeof options !== "object")
        throw wrongType("options", "an object", options)
    const { shared = false, timeout, signal } = options
    if (typeof shared !== "boolean")
        throw wrongType("options.shared", "a boolean", shared)
    if (timeout !== undefined && typeof timeout !== "number")
        throw wrongType("options.timeout", "a number of milliseconds", timeout)
    if (timeout !== undefined && !(timeout >= 0)) {
        const error = new RangeError(`"options.timeout" must be zero or more milliseconds, not ${timeout}`)
        error.code = "ERR_OUT_OF_RANGE"
        throw error
    }
    if (signal !== undefined && !(signal instanceof AbortSignal))
        throw wrongType("options.signal", "an AbortSignal", signal)
    return { shared, timeout: timeout > LONGEST ? undefined : timeout, signal }
}

/** Gives one error another as a property, where that is possible, without showing it in enumerations. */
function attach (error, name, other) {
    if (error !== null && typeof error === "object" && Object.isExtensible(error))
        Object.defineProperty(error, name, { value: other, configurable: true, writable: true })
}

module.exports = { url, mutexOptions, acquireOptions, wrongType, attach }
