"use strict"

const native = require("../native.js")
const { MutexError } = require("../errors.js")

/**
 * What a URL means.
 * @param {string} text
 * @returns {{ model: "spm" | "mpm" | "lpm" | "rpm", id: string }}
 * @throws {MutexError} ERR_INVALID_URL
 */
function parse (text) {
    if (typeof text !== "string")
        throw new MutexError("ERR_INVALID_URL", `a mutex URL must be a string or a URL, not ${text === null ? "null" : typeof text}`)
    const { target, unknown, ignored, error } = native.parseUrl(text)
    if (error !== undefined)
        throw new MutexError(error.code, error.message, error.cause)
    for (const name of unknown)
        warn(`unknown parameter "${name}" in a mutex URL is ignored`, "UNKNOWN_PARAMETER")
    if (ignored !== "")
        warn(`"${ignored}" at the end of the path in a mutex URL is ignored: the lock is "${target.id}"; in a name, write "%2F" for a slash`, "IGNORED_PATH")
    return target
}

const warn = (message, code) => process.emitWarning(message, { type: "MutexWarning", code: `IPC_MUTEX_${code}` })

/** Those at which a lock can be taken from its holder, and its holder be told. */
const STEALABLE = /^(?:spm:|rpm\+(?:redis|etcd|consul):)/i

/**
 * Whether the locks of a URL can be stolen.
 * @param {string} url
 * @returns {boolean}
 */
const canSteal = (url) => STEALABLE.test(url)

/** The beginning of a URL, with the colon: what people call its kind of lock. */
const schemeOf = (url) => url.slice(0, url.indexOf(":") + 1)

/**
 * The model behind a session's URL; its code is loaded when it is needed. A model has no state of a request or a hold: it asks and releases at its
 * coordinator, and tells the requests what they are answered.
 *
 * - `openWith(other)`: opens at once where a model of the same coordinator is open already, for requests that follow in the same step
 * - `open()` and `close(holds)`, which also releases these holds, resolve when that is done
 * - `ask(request)` calls `request.granted()`, `busy()` or `failed()`, now or later
 * - `cancel(request, isClosing)`: the request is withdrawn. A promise, if it is not forgotten at once
 * - `release(hold)`: a promise; `DONE` if it is free at once
 * - `verify(hold)`, optional: calls `hold.lose()` if the hold is over by now, whether or not that has been heard
 * - `query()`
 * - `take()`, `isTaken` and `free()`, optional: for `acquire()` without options and its release, as long as nothing but the lock's word changes;
 *   and `join()`, to wait for this object's own hold
 *
 * @param {import("../session.js").Session} session
 * @param {{ label?: string, credentials?: Function }} options of the mutex
 */
function createModel (session, { label, credentials }) {
    const { model } = session.target
    switch (model) {
        case "spm": return new (require("./spm.js").SpmModel)(session, label)
        case "mpm": return require("../cluster/index.js").model(session, label)
        case "lpm": return new (require("./lpm.js").LpmModel)(session, label)
        default:    return new (require("./rpm.js").RpmModel)(session, label, credentials)
    }
}

module.exports = { parse, createModel, canSteal, schemeOf }
