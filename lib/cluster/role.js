"use strict"

const { readFileSync } = require("node:fs")
const native = require("../native.js")
const { isMainThread } = require("../thread.js")
const { process } = require("../realm.js")
const { offer } = require("./offers.js")

/** What a process is to `mpm:`; the numbers are what the addon remembers for all threads and copies. A primary that serves its workers says so. */
const UNKNOWN = 0, PRIMARY = 1, WORKER = 2, SERVING = 3

/** Whether it is seen what Node.js loads, and that a child process comes to be. */
const isSeen = process.versions.bun === undefined && process.versions.deno === undefined && parseInt(process.versions.node) >= 20

/**
 * Whether node:cluster has been loaded. To load it costs more than the rest of this package, and a process that has not loaded
 * it is no worker and has none. Where that is not to be seen, it is taken as loaded.
 */
const clusterIsLoaded = () => !isSeen || process.moduleLoadList?.includes("NativeModule cluster") !== false

/** At the load of the package: finds out the role of the process, and begins to serve those who depend on it. */
function join () {
    // The other version serves them. If both did, each would grant what the other one has granted.
    if (native.conflict !== undefined || !isMainThread)
        return
    // The addon has a role if its JavaScript was loaded before, by a test runner with module registries of its own, or as another copy.
    if (native.clusterRole(UNKNOWN) === UNKNOWN && clusterIsLoaded() && require("node:cluster").isWorker) {
        native.clusterRole(WORKER)
        require("./relay.js").serve()
    }
    if (native.clusterRole(UNKNOWN) === UNKNOWN)
        native.clusterRole(PRIMARY)
    if (native.clusterRole(UNKNOWN) !== PRIMARY)
        return
    // Workers need it now; else a module registry that is thrown away is not kept for those who may come.
    if (!isSeen || clusterIsLoaded() && Object.keys(require("node:cluster").workers).length > 0)
        serve()
    else
        offer(serve)
}

/** Serves the workers of this process, if it has a cluster. This module stays for that. */
function serve () {
    if (native.clusterRole(UNKNOWN) !== PRIMARY || !clusterIsLoaded())
        return
    native.clusterRole(SERVING)
    require("./primary.js").serve(require("node:cluster"))
}

/** The role of the process, as far as this thread can know it. */
function role () {
    const known = native.clusterRole(UNKNOWN)
    if (known !== UNKNOWN)
        return known === SERVING ? PRIMARY : known
    // The main thread has not loaded the package. What the process was started with still tells who started it.
    try {
        return readFileSync("/proc/self/environ", "latin1").split("\0").some((line) => line.startsWith("NODE_UNIQUE_ID=")) ? WORKER : PRIMARY
    }
    catch {
        return UNKNOWN
    }
}

module.exports = { PRIMARY, join, role }
