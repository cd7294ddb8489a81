"use strict"

const { createHook, executionAsyncResource } = require("node:async_hooks")
const { MutexError } = require("./errors.js")

/*
 * Which asynchronous flow holds what, for the option `detectDeadlocks`.
 *
 * A flow gets to hold a lock when it goes on behind `await mutex.acquire()`, not when it calls it: whoever only started
 * that flow holds nothing. Node shows this moment as the creation of the promise by which the flow waits for ours. What runs
 * in that promise's context, and in all that comes of it, holds the lock.
 */

/** By asynchronous resource: the innermost request that its flow has behind it, and what was around that. */
const flows = new WeakMap()
/** The numbers of promises, and the requests that promises of some numbers stand for. */
const numbers = new WeakMap()
const requests = new Map()
/** By hold: the request that it came of. */
const granted = new WeakMap()

const hook = createHook({
    init (number, type, trigger, resource) {
        if (type === "PROMISE")
            numbers.set(resource, number)
        const outer = flows.get(executionAsyncResource())
        const request = requests.get(trigger)
        if (request !== undefined)
            flows.set(resource, { request, outer })
        else if (outer !== undefined)
            flows.set(resource, outer)
    }
})

/** The first line of the caller's stack that is not the package's own. */
function place () {
    const { stackTraceLimit } = Error
    Error.stackTraceLimit = 30
    const { stack } = new Error()
    Error.stackTraceLimit = stackTraceLimit
    const line = stack.split("\n").slice(1).find((text) => !text.includes(__dirname))
    return line === undefined ? "an unknown place" : line.trim().replace(/^at (?:async )?/, "")
}

/** Finds calls that would wait for themselves for ever. */
class Detector {
    #last

    constructor () {
        hook.enable()
    }

    /**
     * A call asks for a lock without a time limit.
     * @returns {MutexError | undefined} why it would never be answered
     */
    conflict (target, shared) {
        for (let flow = flows.get(executionAsyncResource()); flow !== undefined; flow = flow.outer) {
            const { request } = flow
            const same = request.held && request.id === target.id && request.model === target.model
            if (same && !(request.shared && shared))
                return new MutexError("ERR_DEADLOCK", `lock "${target.id}" is held by the caller itself, which acquired it ` +
                    `at ${request.place}; acquiring it again at ${place()} would wait for ever`)
        }
        return undefined
    }

    /** A request begins; `guard` connects it with the promise that the caller gets. */
    begin (target, shared) {
        return this.#last = { id: target.id, model: target.model, shared, place: place(), held: false, number: 0 }
    }

    /** Makes a call that may begin a request. @template T @param {() => Promise<T>} call @returns {Promise<T>} */
    guard (call) {
        this.#last = undefined
        const promise = call()
        const request = this.#last
        if (request !== undefined && numbers.has(promise)) {
            request.number = numbers.get(promise)
            requests.set(request.number, request)
        }
        return promise
    }

    /** The request is over, with a hold or without. */
    end (request, hold) {
        if (hold === null)
            // what still waits for the promise goes on without a lock
            queueMicrotask(() => requests.delete(request.number))
        else {
            request.held = true
            granted.set(hold, request)
        }
    }

    /** The hold is over. */
    left (hold) {
        const request = granted.get(hold)
        if (request !== undefined) {
            request.held = false
            requests.delete(request.number)
        }
    }
}

let only

/** @returns {Detector} the one of this thread */
function detector () {
    return only ??= new Detector()
}

module.exports = { detector }
