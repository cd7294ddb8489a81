"use strict"

const { readFileSync } = require("node:fs")
const { channel } = require("node:diagnostics_channel")
const native = require("../native.js")
const { isMainThread } = require("../thread.js")

/** What a process is to `mpm:`; the numbers are what the addon remembers for all threads. */
const UNKNOWN = 0, PRIMARY = 1, WORKER = 2

/**
 * Whether node:cluster has been loaded. To load it costs more than the rest of this package, and a process that has not loaded
 * it is no worker and has none. Where that is not to be seen, it is taken as loaded.
 */
function clusterIsLoaded () {
    const [ major ] = process.versions.node.split(".")
    if (process.versions.bun !== undefined || process.versions.deno !== undefined || major < 20 || !Array.isArray(process.moduleLoadList))
        return true
    return process.moduleLoadList.includes("NativeModule cluster")
}

const children = channel("child_process")

/** At the load of the package: finds out the role of the process, and begins to serve those who depend on it. */
function join () {
    // The other version serves them. If both did, each would grant what the other one has granted.
    if (native.conflict !== undefined)
        return
    // The addon has a role if its JavaScript was loaded before, by a test runner with module registries of its own, or as another copy.
    if (!isMainThread || native.clusterRole(UNKNOWN) !== UNKNOWN)
        return
    if (clusterIsLoaded())
        return enlist()
    native.clusterRole(PRIMARY)
    // A fork of node:cluster makes a child process before anything else happens to it.
    const onchild = () => {
        if (clusterIsLoaded()) {
            children.unsubscribe(onchild)
            enlist()
        }
    }
    children.subscribe(onchild)
}

function enlist () {
    const cluster = require("node:cluster")
    if (cluster.isWorker) {
        native.clusterRole(WORKER)
        require("./relay.js").serve()
    }
    else {
        native.clusterRole(PRIMARY)
        require("./primary.js").serve(cluster)
    }
}

/** The role of the process, as far as this thread can know it. */
function role () {
    const known = native.clusterRole(UNKNOWN)
    if (known !== UNKNOWN)
        return known
    // The main thread has not loaded the package. What the process was started with still tells who started it.
    try {
        return readFileSync("/proc/self/environ", "latin1").split("\0").some((line) => line.startsWith("NODE_UNIQUE_ID=")) ? WORKER : PRIMARY
    }
    catch {
        return UNKNOWN
    }
}

module.exports = { PRIMARY, join, role }
