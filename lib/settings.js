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

/** Taken at load: a test of a user may replace the global. */
const WhatwgUrl = URL

/** Scheme and authority of a lock on a server, and all that follows. */
const REMOTE = /^(rpm\+[a-z]+:\/\/[^/?#]*)([^]*)$/

/**
 * The text of a URL given as text or as a `URL`. Its path is as the WHATWG URL parser gives it, so that one spelling has one
 * meaning; the authority is not, as that parser knows no lists of hosts.
 * @param {unknown} value
 * @returns {string}
 */
function url (value) {
    const isUrl = value !== null && typeof value === "object" && typeof value.href === "string" && typeof value.protocol === "string"
    const text = isUrl ? value.href : value
    if (typeof text !== "string")
        return text
    // The parser drops these too, wherever they stand.
    const found = REMOTE.exec(text.replace(/^[\0-\x20]+|[\0-\x20]+$|[\t\n\r]+/g, ""))
    if (found === null)
        return text
    const [ , before, after ] = found
    const { pathname, search } = new WhatwgUrl(`rpm://h${after}`)
    return before + (after.startsWith("/") ? pathname : "") + search
}

/**
 * Refuses what would be ignored: a mistyped `timeout` is a wait without end.
 * @param {object} options
 * @param {readonly string[]} known
 */
function onlyKnown (options, known) {
    for (const name of Object.keys(options))
        if (!known.includes(name) && options[name] !== undefined) {
            const error = new TypeError(`unknown option "${name}", expected ${known.join(", ")}`)
            error.code = "ERR_INVALID_ARG_VALUE"
            throw error
        }
}

/* The options that there are. */
const MUTEX = [ "label", "detectDeadlocks", "credentials" ], MANAGER = [ ...MUTEX, "maxPending" ]
const TRY = [ "shared" ], ACQUIRE = [ ...TRY, "timeout", "signal" ], LOCK = [ ...ACQUIRE, "steal" ]
const NONE = Object.freeze({ label: undefined, detectDeadlocks: false, credentials: undefined })

/** @returns {{ label?: string, detectDeadlocks: boolean, credentials?: Function }} */
function mutexOptions (options, known = MUTEX) {
    if (options === undefined)
        return NONE
    if (options === null || typeof options !== "object")
        throw wrongType("options", "an object", options)
    onlyKnown(options, known)
    const { label, detectDeadlocks = false, credentials } = options
    if (label !== undefined && typeof label !== "string")
        throw wrongType("options.label", "a string", label)
    if (typeof detectDeadlocks !== "boolean")
        throw wrongType("options.detectDeadlocks", "a boolean", detectDeadlocks)
    if (credentials !== undefined && typeof credentials !== "function")
        throw wrongType("options.credentials", "a function", credentials)
    return { label, detectDeadlocks, credentials }
}

/** @returns {{ label?: string, detectDeadlocks: boolean, credentials?: Function, maxPending: number }} */
function managerOptions (options) {
    const given = mutexOptions(options, MANAGER)
    const { maxPending = Infinity } = options ?? {}
    if (typeof maxPending !== "number")
        throw wrongType("options.maxPending", "a number", maxPending)
    if (!(maxPending >= 1)) {
        const error = new RangeError(`"options.maxPending" must be 1 or more, not ${maxPending}`)
        error.code = "ERR_OUT_OF_RANGE"
        throw error
    }
    return { ...given, maxPending }
}

/** @throws {TypeError} if somebody is to ask for credentials who does not */
function checkCredentials ({ credentials }, model) {
    if (credentials !== undefined && model !== "rpm")
        throw wrongType("options.credentials", "absent: only a server asks for credentials", credentials)
}

const DEFAULTS = Object.freeze({ shared: false, timeout: undefined, signal: undefined, steal: false })

/** @returns {{ shared: boolean }} what a call that does not wait is given */
const tryOptions = (options) => acquireOptions(options, TRY)

/** By its shape, as a test's environment and polyfills have signals of their own. */
const isSignal = (value) => typeof value === "object" && value !== null && "aborted" in value &&
    typeof value.addEventListener === "function" && typeof value.removeEventListener === "function"

/** @returns {{ shared: boolean, timeout?: number, signal?: AbortSignal, steal: boolean }} what `lock()` is given */
function lockOptions (options) {
    const given = acquireOptions(options, LOCK)
    if (!given.steal)
        return given
    if (typeof given.steal !== "boolean")
        throw wrongType("options.steal", "a boolean", given.steal)
    if (given.shared) {
        const error = new TypeError("\"options.steal\" does not go with \"options.shared\": who steals a lock has it alone")
        error.code = "ERR_INVALID_ARG_VALUE"
        throw error
    }
    return given
}

/** @returns {{ shared: boolean, timeout?: number, signal?: AbortSignal, steal?: unknown }} */
function acquireOptions (options, known = ACQUIRE) {
    if (options === undefined)
        return DEFAULTS
    if (options === null || typeof options !== "object")
        throw wrongType("options", "an object", options)
    onlyKnown(options, known)
    const { shared = false, timeout, signal, steal = false } = options
    if (typeof shared !== "boolean")
        throw wrongType("options.shared", "a boolean", shared)
    if (timeout !== undefined && typeof timeout !== "number")
        throw wrongType("options.timeout", "a number of milliseconds", timeout)
    if (timeout !== undefined && !(timeout >= 0)) {
        const error = new RangeError(`"options.timeout" must be zero or more milliseconds, not ${timeout}`)
        error.code = "ERR_OUT_OF_RANGE"
        throw error
    }
    if (signal !== undefined && !isSignal(signal))
        throw wrongType("options.signal", "an AbortSignal", signal)
    return { shared, timeout: timeout > LONGEST ? undefined : timeout, signal, steal }
}

/**
 * The arguments of a method that takes a function, behind options that may be left out.
 * @returns {[ options: unknown, fn: Function ]}
 */
function withFunction (options, fn) {
    if (typeof options === "function" && fn === undefined)
        return [ undefined, options ]
    if (typeof fn !== "function")
        throw wrongType("fn", "a function", fn)
    return [ options, fn ]
}

/** Gives one error another as a property, where that is possible, without showing it in enumerations. */
function attach (error, name, other) {
    if (error !== null && typeof error === "object" && Object.isExtensible(error))
        Object.defineProperty(error, name, { value: other, configurable: true, writable: true })
}

module.exports = { url, mutexOptions, managerOptions, checkCredentials, acquireOptions, lockOptions, tryOptions, withFunction, isSignal, wrongType, attach }
