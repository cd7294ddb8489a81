"use strict"

// Loads the addon: the one built in this folder, else the one of this platform's package. Exports what the addon exports.

const { createRequire } = require("node:module")
const path = require("node:path")
const { platformId } = require("./platform.js")

const id = platformId()
/** What bundlers leave alone: the binary is found when the program runs. */
const fromDisk = createRequire(__filename)

/** Where the addon may be, in the order in which it is looked for. */
function places () {
    // For tests of one particular binary: this one or none.
    if (process.env.IPC_MUTEX_NATIVE)
        return [ () => fromDisk(path.resolve(process.env.IPC_MUTEX_NATIVE)) ]
    return [ () => fromDisk(`../ipc-mutex.${id}.node`), fromPackage ]
}

/** The name and version of this package, and what the one with the binary for this platform is called. */
function names () {
    const { name, version } = require("../package.json")
    return { name, version, packageName: `${name}-${id}` }
}

/** Two versions that were never tested together must not share a lock table. */
function fromPackage () {
    const { name, version, packageName } = names()
    const found = fromDisk(`${packageName}/package.json`).version
    if (found !== version)
        throw Object.assign(new Error(`${packageName} has version ${found}, but ${name} has version ${version}; install the same version of both`),
            { code: "ERR_IPC_MUTEX_VERSION" })
    return fromDisk(packageName)
}

function load () {
    const attempts = []
    for (const place of places()) {
        try {
            return place()
        }
        catch (error) {
            attempts.push(error)
        }
    }
    throw require("./missing.js").missing(attempts, names().name, fromDisk)
}

/**
 * A program may have this package twice, in two folders, and then two addons with a lock table each. All copies of one version use the addon that
 * was loaded first. Copies of other versions cannot; they say so, and refuse the locks that would not exclude each other.
 */
function common (own) {
    const file = own.firstCopy()
    if (file === undefined)
        return own
    let first
    try {
        first = fromDisk(file)
    }
    catch (error) {
        first = error
    }
    if (first.version?.() === own.version())
        return first
    const { name, version } = names()
    const conflict = `this process has loaded another version of ${name} from ${file}; install one version only`
    process.emitWarning(`${name} ${version} refuses spm: and mpm: locks: ${conflict}`, { type: "MutexWarning", code: "IPC_MUTEX_TWO_VERSIONS" })
    return Object.defineProperty(own, "conflict", { value: conflict })
}

module.exports = common(load())
