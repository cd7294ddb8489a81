"use strict"

// Loads the addon: the one built in this folder, else the one of this platform's package. Exports what the addon exports.

const path = require("node:path")
const { platformId, platformInWords } = require("./platform.js")

const id = platformId()

/** Where the addon may be, in the order in which it is looked for. */
function places () {
    // For tests of one particular binary: this one or none.
    if (process.env.IPC_MUTEX_NATIVE)
        return [ () => require(path.resolve(process.env.IPC_MUTEX_NATIVE)) ]
    return [ () => require(`../ipc-mutex.${id}.node`), fromPackage ]
}

/** The name and version of this package, and what the one with the binary for this platform is called. */
function names () {
    const { name, version } = require("../package.json")
    return { name, version, packageName: `${name}-${id}` }
}

/** Two versions that were never tested together must not share a lock table. */
function fromPackage () {
    const { name, version, packageName } = names()
    const found = require(`${packageName}/package.json`).version
    if (found !== version)
        throw new Error(`${packageName} is of version ${found}, but ${name} of version ${version}; install the same version of both`)
    return require(packageName)
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
    const { name, version, packageName } = names()
    const cause = attempts.length === 1 ? attempts[0] : new AggregateError(attempts, attempts.map(({ message }) => message).join("\n"))
    throw new Error(
        `${name} has no native binary that works here (${platformInWords()}). If optional dependencies were left out when it was ` +
        `installed, as "npm install --omit=optional" does, run: npm install ${packageName}@${version}. ` +
        "To build it from source, which needs Rust 1.88 or newer, run in a clone of the repository: npm install && npm run build",
        { cause })
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
        first = require(file)
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
