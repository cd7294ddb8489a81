"use strict"

const native = require("../native.js")
const { MutexError } = require("../errors.js")

/**
 * What a URL means.
 * @param {string} text
 * @returns {{ model: "spm" | "mpm" | "rpm", id: string }}
 * @throws {MutexError} ERR_INVALID_URL
 */
function parse (text) {
    if (typeof text !== "string")
        throw new MutexError("ERR_INVALID_URL", `a mutex URL must be a string or a URL, not ${typeof text}`)
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

/**
 * The model behind a parsed URL; its code is loaded when it is needed.
 * @param {import("node:events").EventEmitter} owner hears "disconnect" and "reconnect"
 */
function createModel (target, url, label, owner) {
    switch (target.model) {
        case "spm": return new (require("./spm.js").SpmModel)(target.id, label)
        case "mpm": return require("../cluster/index.js").model(target.id, label)
        default:    return new (require("./rpm.js").RpmModel)(url, label, owner)
    }
}

module.exports = { parse, createModel }
