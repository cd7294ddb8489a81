"use strict"

// Why no binary could be loaded, and what to do about it. Loaded only when that happened.

const path = require("node:path")
const { PLATFORMS, platformId, platformInWords } = require("./platform.js")

/** The first line of a message: Node.js adds the stack of requiring files to some. */
const firstLine = ({ message }) => String(message).split("\n")[0]

/** The platform packages of other systems that are installed beside this one. */
function foreign (name, fromDisk) {
    return PLATFORMS.map((id) => `${name}-${id}`).filter((packageName) => {
        try {
            return fromDisk.resolve(`${packageName}/package.json`)
        }
        catch {
            return false
        }
    })
}

/** The reason and the remedy, in one sentence. @param {Error[]} attempts one for each place that was looked at */
function reason (attempts, name, fromDisk) {
    const withCode = (code) => attempts.find((error) => error.code === code)
    if (process.env.IPC_MUTEX_NATIVE)
        return `IPC_MUTEX_NATIVE names ${process.env.IPC_MUTEX_NATIVE}, which cannot be loaded: ${firstLine(attempts[0])}`
    if (withCode("ERR_DLOPEN_DISABLED") || withCode("ERR_ACCESS_DENIED"))
        return process.permission === undefined
            ? "Node.js was started with --no-addons; start it without"
            : "the permission model forbids it; start Node.js with --allow-addons and --allow-fs-read for node_modules"
    const broken = withCode("ERR_DLOPEN_FAILED") ?? withCode("ERR_IPC_MUTEX_VERSION")
    if (broken !== undefined)
        return `the binary is installed but cannot be used: ${firstLine(broken)}`
    if (!PLATFORMS.includes(platformId()))
        return "no binary is prebuilt for this platform; in a clone of the repository, with Rust 1.88 or newer, run: npm install && npm run build"
    if (path.basename(__filename) !== "missing.js")
        return `it was bundled; mark ${name} as external, or install ${name}-${platformId()} in a node_modules beside the bundle (docs/bundlers.md)`
    const others = foreign(name, fromDisk)
    if (others.length > 0)
        return `node_modules was made on another system (it has ${others.join(", ")}); delete node_modules and run npm install here`
    return "optional dependencies were left out; run: npm install --include=optional. " +
        "If that changes nothing, the lock file was written on another system: delete it and node_modules, then run npm install"
}

/** The error to throw. Its cause is one line for each place that was looked at. */
function missing (attempts, name, fromDisk) {
    return new Error(`${name} cannot load its native binary (${platformInWords()}): ${reason(attempts, name, fromDisk)}`,
        { cause: attempts.map(firstLine).join("; ") })
}

module.exports = { missing }
