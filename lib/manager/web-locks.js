"use strict"

/*
 * `request()` and `query()` as the Web Locks API has them (https://w3c.github.io/web-locks/): how arguments are read, in which order they are
 * checked, and what the promise of a request says.
 */

const aborts = require("../aborts.js")
const port = require("../port.js")
const settings = require("../settings.js")
const { nameOf } = require("./names.js")

const MODES = [ "exclusive", "shared" ]

const notSupported = (message) => new DOMException(message, "NotSupportedError")

/** What ends a request or a hold without its caller, as an error of that API; everything else stays as it is. */
function translated (error) {
    if (error?.code !== "ERR_LOCK_LOST" && error?.code !== "ERR_CLOSED")
        return error
    const abort = new DOMException(error.message, "AbortError")
    settings.attach(abort, "cause", error)
    return abort
}

/** The dictionary LockOptions, read as Web IDL reads it. */
function read (options) {
    if (options === undefined || options === null)
        options = {}
    else if (typeof options !== "object" && typeof options !== "function")
        throw settings.wrongType("options", "an object", options)
    const ifAvailable = Boolean(options.ifAvailable)
    const mode = options.mode === undefined ? "exclusive" : `${options.mode}`
    if (!MODES.includes(mode))
        throw settings.wrongType("options.mode", "\"exclusive\" or \"shared\"", options.mode)
    const { signal } = options
    if (signal !== undefined && !settings.isSignal(signal))
        throw settings.wrongType("options.signal", "an AbortSignal", signal)
    return { ifAvailable, mode, signal, steal: Boolean(options.steal) }
}

/** @throws what the promise of `request()` rejects with at once */
function check (name, { ifAvailable, mode, signal, steal }, place) {
    if (name.startsWith("-"))
        throw notSupported("a name that begins with \"-\" is reserved by the Web Locks API; lock() takes any name")
    if (steal && ifAvailable)
        throw notSupported("\"steal\" and \"ifAvailable\" do not go together")
    if (steal && mode !== "exclusive")
        throw notSupported("\"steal\" goes with the mode \"exclusive\" only")
    if (signal !== undefined && (steal || ifAvailable))
        throw notSupported("\"signal\" does not go with \"steal\" or \"ifAvailable\": they do not wait")
    if (signal?.aborted)
        throw aborts.reasonOf(signal)
    if (steal && !place.canSteal)
        throw notSupported(`"steal" is not available for ${place.scheme} locks`)
}

/**
 * @param {import("../manager.js").LockManager} manager
 * @param {import("./place.js").Place} place of the manager
 * @param {unknown[]} args of the call
 */
async function request (manager, place, args) {
    if (args.length < 2)
        throw settings.wrongType("callback", "a function", undefined)
    const name = `${args[0]}`
    const [ given, callback ] = args.length === 2 ? [ undefined, args[1] ] : [ args[1], args[2] ]
    const options = read(given)
    if (typeof callback !== "function")
        throw settings.wrongType("callback", "a function", callback)
    check(name, options, place)
    const { ifAvailable, mode, signal, steal } = options
    const shared = mode === "shared"
    let held
    try {
        held = await (ifAvailable ? manager.tryLock(name, { shared }) : manager.lock(name, { shared, signal, steal }))
    }
    catch (error) {
        throw translated(error)
    }
    if (held === null)
        return callback(null)
    const aborted = signal === undefined ? undefined : unlessAborted(held, signal)
    // Nothing comes between the look and the callback.
    if (aborted !== undefined)
        await aborted
    return within(held, callback)
}

/** Gives back what was granted if the signal has aborted between the grant and now. @throws its reason */
function unlessAborted (held, signal) {
    let reason
    try {
        if (!signal.aborted)
            return
        reason = aborts.reasonOf(signal)
    }
    catch (error) {
        // A signal may be anybody's code.
        reason = error
    }
    return held.release().catch(() => {}).then(() => { throw reason })
}

/** Runs the callback, and releases. Rejects at the loss of the lock, whatever the callback still does. */
function within (held, callback) {
    return new Promise((resolve, reject) => {
        const { signal } = held
        if (signal.aborted)
            return reject(translated(signal.reason))
        const lost = () => {
            port.letGo()
            reject(translated(signal.reason))
        }
        signal.addEventListener("abort", lost, { once: true })
        port.keepAlive()
        const over = async (settle, value) => {
            if (signal.aborted)
                return
            signal.removeEventListener("abort", lost)
            try {
                await held.release()
            }
            catch (error) {
                if (settle === resolve)
                    [ settle, value ] = [ reject, translated(error) ]
                else
                    // An error of the callback says more.
                    settings.attach(value, "releaseError", error)
            }
            port.letGo()
            settle(value)
        }
        new Promise((answer) => { answer(callback(held)) }).then((value) => over(resolve, value), (error) => over(reject, error))
    })
}

/**
 * @param {Array<[ id: string, seen: { held: object[], pending: object[] } ]>} locks
 * @returns {{ held: object[], pending: object[] }} a LockManagerSnapshot, with what else is known of each
 */
function snapshot (locks) {
    const all = { held: [], pending: [] }
    for (const [ id, seen ] of locks) {
        const name = nameOf(id)
        for (const list of [ "held", "pending" ])
            for (const info of seen[list])
                all[list].push({ name, mode: info.mode, clientId: clientOf(info), ...info })
    }
    return all
}

/** One for each thread of each process. */
const clientOf = ({ host, pid, thread }) => [ host, pid, thread ].filter((part) => part !== undefined).join("/")

module.exports = { request, snapshot }
