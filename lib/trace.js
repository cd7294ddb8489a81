"use strict"

const channel = require("node:diagnostics_channel").channel

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

const now = () => performance.now()

/** The wait begins. @returns {object | undefined} what the channels' listeners get, again and again until the end */
function begin (target, shared) {
    if (!active())
        return undefined
    const context = { id: target.id, model: target.model, mode: shared ? "shared" : "exclusive", begun: now() }
    const message = { id: context.id, model: context.model, mode: context.mode }
    context.message = message
    ACQUIRE.start.publish(message)
    ACQUIRE.end.publish(message)
    return context
}

/** The wait is over: granted, busy or failed. */
function end (context, error) {
    if (context === undefined)
        return
    const { message } = context
    message.waitTime = now() - context.begun
    if (error !== undefined) {
        message.error = error
        ACQUIRE.error.publish(message)
    }
    ACQUIRE.asyncStart.publish(message)
    ACQUIRE.asyncEnd.publish(message)
}

/** The hold begins. */
function hold (context, granted) {
    if (context === undefined)
        return
    const message = { id: context.id, model: context.model, mode: context.mode, waitTime: context.message.waitTime }
    if (granted.token !== undefined)
        message.token = granted.token
    granted.trace = { message, begun: now() }
    HOLD.start.publish(message)
    HOLD.end.publish(message)
}

/** The hold is over: released, or lost. */
function released (granted, error) {
    const { trace } = granted
    if (trace === undefined)
        return
    granted.trace = undefined
    trace.message.holdTime = now() - trace.begun
    if (error !== undefined) {
        trace.message.error = error
        HOLD.error.publish(trace.message)
    }
    HOLD.asyncStart.publish(trace.message)
    HOLD.asyncEnd.publish(trace.message)
}

module.exports = { active, begin, end, hold, released }
