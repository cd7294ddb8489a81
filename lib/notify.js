"use strict"

const { Line } = require("./models/line.js")
const { microtask, nextTick } = require("./timing.js")

/*
 * How users are told: listeners of events, subscribers of tracing channels, listeners of `lock.signal`. All of that is foreign code,
 * which may call anything of ours, and throw. So it never runs while a state changes: what changed is put down here, and told when the
 * state is whole, in the order in which it happened.
 */

/** What is to be told: whose asynchronous context it is told in, a function, and its two arguments. */
let told = []
/** Signals to abort, and with which reason. They are not made to wait for what is told before them. */
const aborts = new Line()
let scheduled = false

function schedule () {
    if (!scheduled) {
        scheduled = true
        microtask(drain)
    }
}

/** An error of foreign code: uncaught, as anywhere else, and without effect on the lock. */
function uncaught (error) {
    nextTick(() => { throw error })
}

/**
 * Calls `call` soon, with two arguments.
 * @param {{ context?: import("node:async_hooks").AsyncResource }} of the request or hold whose context it is called in
 */
function later (of, call, first, second) {
    told.push(of, call, first, second)
    schedule()
}

/** Aborts a signal soon, at the latest with the next `flush`. */
function abort (controller, reason) {
    aborts.push({ controller, reason })
    schedule()
}

/** Aborts now what is to be aborted: for whoever is about to give control back to the caller. */
function flush () {
    while (aborts.length > 0) {
        const { controller, reason } = aborts.shift()
        try {
            controller.abort(reason)
        }
        catch (error) {
            uncaught(error)
        }
    }
}

function drain () {
    while (told.length + aborts.length > 0) {
        const batch = told
        told = []
        flush()
        for (let at = 0; at < batch.length; at += 4) {
            tell(batch[at], batch[at + 1], batch[at + 2], batch[at + 3])
            flush()
        }
    }
    scheduled = false
}

function tell (of, call, first, second) {
    try {
        if (of?.context === undefined)
            call(first, second)
        else
            of.context.runInAsyncScope(call, undefined, first, second)
    }
    catch (error) {
        uncaught(error)
    }
}

module.exports = { abort, flush, later }
