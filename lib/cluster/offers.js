"use strict"

const { channel } = require("node:diagnostics_channel")
const { runInThisContext } = require("node:vm")
const native = require("../native.js")

/*
 * Which copy of this package will serve the workers of this process, should it become a cluster's primary. There may be many: a test runner loads
 * modules anew for each file of tests, often in a realm of its own, and throws them away afterwards.
 */

/**
 * Calls the newest copy that still exists when a child process comes to be. A fork of node:cluster makes one before anything else happens to it.
 * What Node.js keeps must keep neither modules nor their realm, so this is code of the realm of Node.js itself, and knows the copies weakly.
 */
const LISTEN = `(children) => {
    let copies = []
    const living = () => copies = copies.filter((copy) => copy.deref() !== undefined)
    children.subscribe(() => living().at(-1)?.deref()?.())
    return (serve) => { living().push(new WeakRef(serve)) }
}`

/** @param {() => void} serve of a copy that keeps it */
function offer (serve) {
    // Beside the addon, which all copies share.
    native.offer ??= runInThisContext(LISTEN)(channel("child_process"))
    native.offer(serve)
}

module.exports = { offer }
