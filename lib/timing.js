"use strict"

/*
 * Timers and clocks as they were when the package was loaded. Tests of programs put fake ones in their place, which stand still: a lock
 * must not wait for those.
 */

const { clearTimeout, setImmediate, setTimeout } = require("node:timers")

const { nextTick } = process
const resolved = Promise.resolve()

/** Milliseconds since some moment, never going back. */
const now = performance.now.bind(performance)

/** Calls `call` as a microtask. Cheaper than queueMicrotask(), which makes a resource each time; an error becomes an unhandled rejection. */
const microtask = (call) => { resolved.then(call) }

module.exports = { clearTimeout, microtask, nextTick, now, setImmediate, setTimeout }
