"use strict"

const { AsyncResource } = require("node:async_hooks")
const { channel } = require("node:diagnostics_channel")
const notify = require("./notify.js")
const { now } = require("./timing.js")

/*
 * Two tracing channels in the sense of node:diagnostics_channel: "ipc-mutex:acquire" spans the wait, "ipc-mutex:hold" the
 * hold. Made of plain channels, because Node 18 has no tracingChannel(); the names are the ones that it would use.
 */

const PARTS = [ "start", "end", "asyncStart", "asyncEnd", "error" ]
const named = (name) => Object.fromEntries(PARTS.map((part) => [ part, channel(`tracing:${name}:${part}`) ]))
const ACQUIRE = named("ipc-mutex:acquire")
const HOLD = named("ipc-mutex:hold")
const heard = ({ start, end, asyncStart, asyncEnd, error }) => start.hasSubscribers || end.hasSubscribers ||
    asyncStart.hasSubscribers || asyncEnd.hasSubscribers || error.hasSubscribers

/** Whether anybody listens. */
function active () {
    return heard(ACQUIRE) || heard(HOLD)
}

/** Publishes the start of a span, and calls `call` with what subscribers have bound to it (`bindStore`). Node 18 has no such thing. */
function within (start, message, call) {
    if (typeof start.runStores === "function")
        return start.runStores(message, call)
    start.publish(message)
    return call()
}

/** Sends a request, as the beginning of its span. @template T @param {() => T} send @returns {T} */
function asking (request, send) {
    const { target: { id, model } } = request.session
    const message = { id, model, mode: request.shared ? "shared" : "exclusive" }
    request.span = { message, begun: now() }
    return within(ACQUIRE.start, message, () => {
        try {
            return send()
        }
        finally {
            ACQUIRE.end.publish(message)
        }
    })
}

/** The request was granted: its span ends, and that of the hold begins. */
function granted (request, hold) {
    const { span } = request
    if (span === undefined)
        return
    refused(request)
    const { id, model, mode, waitTime } = span.message
    const message = { id, model, mode, waitTime }
    if (hold.token !== undefined)
        message.token = hold.token
    hold.span = { message, begun: now() }
    notify.later(hold, begin, hold, message)
}

function begin (hold, message) {
    within(HOLD.start, message, () => {
        hold.context = new AsyncResource("IPC_MUTEX", { requireManualDestroy: true })
        HOLD.end.publish(message)
    })
}

/** The request is over without the lock. */
function refused (request, error) {
    finish(ACQUIRE, request, "waitTime", error)
}

/** The hold is over. */
function ended (hold, error) {
    finish(HOLD, hold, "holdTime", error)
}

function finish (channels, of, duration, error) {
    const { span } = of
    if (span === undefined)
        return
    span.message[duration] = now() - span.begun
    notify.later(of, publish, channels, { message: span.message, error })
}

function publish (channels, { message, error }) {
    if (error !== undefined) {
        message.error = error
        channels.error.publish(message)
    }
    channels.asyncStart.publish(message)
    channels.asyncEnd.publish(message)
}

module.exports = { active, asking, ended, granted, refused }
